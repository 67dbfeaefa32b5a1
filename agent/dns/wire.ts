/**
 * Owns DNS messages as bytes (RFC 1035 §4, EDNS of RFC 6891), and is the home of dns-packet. What
 * comes in may be hostile: it is read strictly, and nothing it holds throws. It knows no names.
 */

import dnsPacket, { type Answer } from 'dns-packet'

export type { Answer } from 'dns-packet'

/** A question this server may answer or pass on. */
export interface Query {
  readonly id: number
  /** As it was asked; answers repeat its case. */
  readonly asked: string
  /** In lower case, without the last dot; null where its labels are not plain text. */
  readonly name: string | null
  /** Such as `A`. */
  readonly type: string
  readonly recursionDesired: boolean
  /** Null without EDNS. */
  readonly edns: { readonly payloadBytes: number; readonly version: number } | null
  /** The question as bytes, by which an answer to it is known. */
  readonly question: Buffer
}

/** What a message turned out to be. */
export type Reading =
  | { readonly kind: 'query'; readonly query: Query }
  /** To be answered with that code and nothing else. */
  | { readonly kind: 'refused'; readonly id: number; readonly code: ResponseCode }
  /** To be left alone: a response, or no DNS at all. */
  | { readonly kind: 'noise' }

/** Response codes (RFC 1035 §4.1.1, RFC 6891 §9). */
export const responseCodes = {
  noError: 0,
  formatError: 1,
  serverFailure: 2,
  noSuchName: 3,
  notImplemented: 4,
  refused: 5,
  badVersion: 16,
} as const

/** One of them. */
export type ResponseCode = (typeof responseCodes)[keyof typeof responseCodes]

/** What a response says beside the question. */
export interface Response {
  readonly code: ResponseCode
  /** Whether this server owns the name. */
  readonly authoritative: boolean
  readonly answers: readonly Answer[]
  readonly authorities: readonly Answer[]
  readonly additionals: readonly Answer[]
}

const headerBytes = 12
const authoritativeBit = 1 << 10
const truncatedBit = 1 << 9
const recursionDesiredBit = 1 << 8
const recursionAvailableBit = 1 << 7
/** Most that is sent over UDP: no fragments on any usual link (DNS flag day 2020). */
const largestDatagramBytes = 1232
const plainDatagramBytes = 512
/** The four bytes behind a name: type and class. */
const typeAndClassBytes = 4

/** Reads a message as a server does. */
export function readQuery(message: Buffer): Reading {
  if (message.length < headerBytes) return { kind: 'noise' }
  const id = message.readUInt16BE(0)
  const flags = message.readUInt16BE(2)
  if ((flags & 0x8000) !== 0) return { kind: 'noise' }
  const refused = (code: ResponseCode): Reading => ({ kind: 'refused', id, code })
  if (((flags >> 11) & 0xf) !== 0) return refused(responseCodes.notImplemented)
  const counts = [4, 6, 8].map((at) => message.readUInt16BE(at))
  const [questions, answers, authorities] = counts
  if (questions !== 1 || answers !== 0 || authorities !== 0) {
    return refused(responseCodes.formatError)
  }
  const decoded = decode(message)
  const [asked] = decoded?.questions ?? []
  if (decoded === null || asked === undefined) return refused(responseCodes.formatError)
  // dns-packet answers the numbers of types and classes it does not know as `UNKNOWN_<number>`.
  if (asked.class !== 'IN') return refused(responseCodes.refused)
  const options = (decoded.additionals ?? []).filter(({ type }) => type === 'OPT')
  if (options.length > 1) return refused(responseCodes.formatError)
  const [option] = options
  const nameBytes = nameEnd(message) - headerBytes
  return {
    kind: 'query',
    query: {
      id,
      asked: asked.name,
      name: isPlain(message, asked.name) ? asked.name.toLowerCase().replace(/\.$/, '') : null,
      type: asked.type,
      recursionDesired: (flags & recursionDesiredBit) !== 0,
      edns:
        option?.type === 'OPT'
          ? { payloadBytes: option.udpPayloadSize, version: option.ednsVersion }
          : null,
      question: message.subarray(headerBytes, headerBytes + nameBytes + typeAndClassBytes),
    },
  }
}

/** How many bytes a response over UDP may have. */
export function datagramLimit({ edns }: Query): number {
  if (edns === null) return plainDatagramBytes
  return Math.min(largestDatagramBytes, Math.max(plainDatagramBytes, edns.payloadBytes))
}

/** Writes a response. One that is longer than `limitBytes` goes empty and truncated. */
export function writeResponse(query: Query, response: Response, limitBytes: number): Buffer {
  const { id, recursionDesired, edns } = query
  const extension: Answer[] =
    edns === null
      ? []
      : [
          {
            type: 'OPT',
            name: '.',
            udpPayloadSize: largestDatagramBytes,
            extendedRcode: response.code >> 4,
            ednsVersion: 0,
            flags: 0,
            flag_do: false,
            options: [],
          },
        ]
  const flags =
    (response.authoritative ? authoritativeBit : 0) |
    (recursionDesired ? recursionDesiredBit : 0) |
    recursionAvailableBit |
    (response.code & 0xf)
  const { question } = query
  const write = (more: number, answers: Answer[], rest: Answer[], last: Answer[]): Buffer => {
    const body = dnsPacket.encode({
      type: 'response',
      id,
      flags: flags | more,
      answers,
      authorities: rest,
      additionals: [...last, ...extension],
    })
    const whole = Buffer.concat([
      body.subarray(0, headerBytes),
      question,
      body.subarray(headerBytes),
    ])
    whole.writeUInt16BE(1, 4)
    return whole
  }
  const { answers, authorities, additionals } = response
  const whole = write(0, [...answers], [...authorities], [...additionals])
  return whole.length <= limitBytes ? whole : write(truncatedBit, [], [], [])
}

/** Writes a response that repeats no question, for messages that could not be read. */
export function writeRefusal(id: number, code: ResponseCode): Buffer {
  return dnsPacket.encode({ type: 'response', id, flags: recursionAvailableBit | code })
}

/** Whether a message is the response to a question. */
export function answersTo(message: Buffer, id: number, question: Buffer): boolean {
  if (message.length < headerBytes + question.length) return false
  if (message.readUInt16BE(0) !== id || (message.readUInt16BE(2) & 0x8000) === 0) return false
  const echoed = message.subarray(headerBytes, headerBytes + question.length)
  return message.readUInt16BE(4) === 1 && sameQuestion(echoed, question)
}

/** The shortest time any record of a response lives, seconds; null where it cannot be kept. */
export function timeToLive(message: Buffer): number | null {
  const flags = message.readUInt16BE(2)
  const code = flags & 0xf
  const isWhole = (flags & truncatedBit) === 0
  if (!isWhole || (code !== responseCodes.noError && code !== responseCodes.noSuchName)) return null
  const decoded = decode(message)
  if (decoded === null) return null
  const records = [...(decoded.answers ?? []), ...(decoded.authorities ?? [])]
  const times = records.map((record) => ('ttl' in record ? (record.ttl ?? 0) : 0))
  return times.length === 0 ? null : Math.min(...times)
}

/** Case of letters apart: resolvers on the way may change it. */
function sameQuestion(a: Buffer, b: Buffer): boolean {
  return a.toString('latin1').toLowerCase() === b.toString('latin1').toLowerCase()
}

function decode(message: Buffer): dnsPacket.DecodedPacket | null {
  try {
    return dnsPacket.decode(message)
  } catch {
    return null
  }
}

/** Where the question's name ends; it was read once, so it is sound. */
function nameEnd(message: Buffer): number {
  let at = headerBytes
  for (;;) {
    const length = message[at] ?? 0
    if (length === 0) return at + 1
    if (length >= 0xc0) return at + 2
    at += length + 1
  }
}

/** Whether a name's labels are what its text says: no dots, no odd bytes, no pointers in them. */
function isPlain(message: Buffer, name: string): boolean {
  if (!/^[!-~]+$/.test(name)) return false
  const labels = name === '.' ? [] : name.split('.')
  const encoded = Buffer.from(
    [...labels.map((label) => String.fromCharCode(label.length) + label), '\0'].join(''),
    'latin1',
  )
  return encoded.equals(message.subarray(headerBytes, headerBytes + encoded.length))
}
