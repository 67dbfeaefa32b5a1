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
import { parseServiceName, type ServiceName } from '#shared/model/names.ts'
import type { Zone, ZoneAnswer } from './zone.ts'

/** What became of a question, for the metric. */
export type DnsOutcome =
  'answered' | 'no-data' | 'no-name' | 'not-known-yet' | 'forwarded' | 'unanswered' | 'refused'

/** Collaborators of a responder. */
export interface ResponderParts {
  readonly zone: Zone
  readonly forwarder: Pick<Forwarder, 'ask'>
  readonly count: (outcome: DnsOutcome) => void
  /** @default the zone has all there are */
  readonly services?: AskedServices
}

/** Is told which services are asked for, where the zone may not have all there are. */
export interface AskedServices {
  /** Resolves when the zone may have what it lacked; never rejects, and takes a bounded time. */
  lookUp(service: ServiceName): Promise<void>
  used(service: ServiceName): void
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

  /** What the zone says; of a service it does not have it is asked again once that was looked for. */
  async #inZone({ name, asked, type }: Query): Promise<ZoneAnswer> {
    const { zone, services } = this.#parts
    if (name === null) return { kind: 'foreign' }
    const answer = zone.answer(name, asked, type)
    const service = services === undefined ? null : serviceOf(name)
    if (service === null) return answer
    if (answer.kind === 'records') services?.used(service)
    if (answer.kind !== 'no-name') return answer
    await services?.lookUp(service)
    return zone.answer(name, asked, type)
  }

  async #answer(message: Buffer, query: Query, transport: Transport): Promise<Buffer | null> {
    const { forwarder, count } = this.#parts
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
    const answer = await this.#inZone(query)
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

/** `<service>.mesh`, `<port>.<service>.mesh`, `_<service>._tcp.mesh`. */
const serviceShape = /^(?:[a-z0-9-]+\.)?([a-z0-9-]+)\.mesh$|^_([a-z0-9-]+)\._tcp\.mesh$/

/** The service that a name is about; null: none. */
function serviceOf(name: string): ServiceName | null {
  const [, plain, viaSrv] = serviceShape.exec(name) ?? []
  const service = parseServiceName(viaSrv ?? plain ?? '')
  return service.ok ? service.value : null
}

interface Records {
  readonly authoritative: boolean
  readonly answers: readonly Answer[]
  readonly authorities: readonly Answer[]
  readonly additionals: readonly Answer[]
}
