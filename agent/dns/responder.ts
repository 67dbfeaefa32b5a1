/**
 * Owns what becomes of one DNS message: the mesh's names are answered, the others go to the system's
 * resolvers, and what is no question is refused. Sockets are `dns-server.ts`'s matter.
 */

import type { Forwarder, Transport } from './forwarder.ts'
import {
  datagramLimit,
  readQuery,
  responseCodes,
  writeRefusal,
  writeResponse,
  type Answer,
  type Query,
  type ResponseCode,
} from './wire.ts'
import type { Zone } from './zone.ts'

/** What became of a question, for the metric. */
export type DnsOutcome =
  'answered' | 'no-data' | 'no-name' | 'not-known-yet' | 'forwarded' | 'unanswered' | 'refused'

/** Collaborators of a responder. */
export interface ResponderParts {
  readonly zone: Zone
  readonly forwarder: Pick<Forwarder, 'ask'>
  readonly count: (outcome: DnsOutcome) => void
}

const longestStreamMessage = 65_535

/** See the header. */
export class Responder {
  readonly #parts: ResponderParts

  constructor(parts: ResponderParts) {
    this.#parts = parts
  }

  /** The bytes to send back, or null for silence. Never throws for what the message holds. */
  async respond(message: Buffer, transport: Transport): Promise<Buffer | null> {
    const { count } = this.#parts
    const reading = readQuery(message)
    switch (reading.kind) {
      case 'noise':
        return null
      case 'refused':
        count('refused')
        return writeRefusal(reading.id, reading.code)
      case 'query':
        return await this.#answer(message, reading.query, transport)
    }
  }

  async #answer(message: Buffer, query: Query, transport: Transport): Promise<Buffer | null> {
    const { zone, forwarder, count } = this.#parts
    const limit = transport === 'udp' ? datagramLimit(query) : longestStreamMessage
    const write = (code: ResponseCode, records: Partial<Records> = {}): Buffer =>
      writeResponse(
        query,
        { code, authoritative: false, answers: [], authorities: [], additionals: [], ...records },
        limit,
      )
    if (query.edns !== null && query.edns.version !== 0) {
      count('refused')
      return write(responseCodes.badVersion)
    }
    const answer =
      query.name === null
        ? ({ kind: 'foreign' } as const)
        : zone.answer(query.name, query.asked, query.type)
    switch (answer.kind) {
      case 'records': {
        count('answered')
        const { answers, extra } = answer
        return write(responseCodes.noError, { authoritative: true, answers, additionals: extra })
      }
      case 'no-data':
        count('no-data')
        return write(responseCodes.noError, {
          authoritative: true,
          authorities: [answer.authority],
        })
      case 'no-name':
        count('no-name')
        return write(responseCodes.noSuchName, {
          authoritative: true,
          authorities: [answer.authority],
        })
      case 'not-known-yet':
        count('not-known-yet')
        return write(responseCodes.serverFailure)
      case 'foreign': {
        const heard = await forwarder.ask(message, query, transport)
        count(heard === null ? 'unanswered' : 'forwarded')
        return heard ?? write(responseCodes.serverFailure)
      }
    }
  }
}

interface Records {
  readonly authoritative: boolean
  readonly answers: readonly Answer[]
  readonly authorities: readonly Answer[]
  readonly additionals: readonly Answer[]
}
