/**
 * Owns Node's own HTTP parser (llhttp, strict) as an oracle: what another careful program makes of
 * the same bytes.
 */

import { createRequire } from 'node:module'

/** One message as llhttp understood it. */
export interface OracleMessage {
  readonly method: string
  /** As it stood in the request line. */
  readonly target: string
  readonly status: number
  /** Name, value, name, value … as they came. */
  readonly fields: readonly string[]
  readonly trailers: readonly string[]
  readonly body: string
  /** Whether the message has come to its end. */
  readonly isWhole: boolean
}

/** All messages up to the end or the first error. */
export interface OracleReading {
  readonly messages: readonly OracleMessage[]
  /** llhttp's code; empty where it found nothing wrong. */
  readonly error: string
}

interface Parser {
  [event: number]: unknown
  initialize(type: number, resource: object, maxHeaderSize: number, lenient: number): void
  execute(bytes: Buffer): number | (Error & { readonly code?: string })
  finish(): undefined | (Error & { readonly code?: string })
}

type Constants = Readonly<
  Record<
    'REQUEST' | 'RESPONSE' | 'kOnHeaders' | 'kOnHeadersComplete' | 'kOnBody' | 'kOnMessageComplete',
    number
  >
>

const { HTTPParser, methods } = createRequire(import.meta.url)('node:_http_common') as {
  readonly HTTPParser: Constants & (new () => Parser)
  readonly methods: readonly string[]
}

type Draft = { -readonly [K in keyof OracleMessage]: OracleMessage[K] }

/** Reads requests. */
export function oracleRequests(bytes: Buffer): OracleReading {
  return read('REQUEST', bytes, [])
}

/** Reads responses to requests with these methods. */
export function oracleResponses(bytes: Buffer, requestMethods: readonly string[]): OracleReading {
  return read('RESPONSE', bytes, requestMethods)
}

function read(
  type: 'REQUEST' | 'RESPONSE',
  bytes: Buffer,
  requestMethods: readonly string[],
): OracleReading {
  const parser = new HTTPParser()
  const messages: Draft[] = []
  let current: Draft | null = null
  let fields: string[] = []
  let target = ''
  let final = 0
  parser.initialize(HTTPParser[type], {}, 131_072, 0)
  parser[HTTPParser.kOnHeaders] = (more: string[], url: string) => {
    if (current === null) {
      fields.push(...more)
      target += url
    } else current.trailers = [...current.trailers, ...more]
  }
  parser[HTTPParser.kOnHeadersComplete] = (
    _major: number,
    _minor: number,
    all: string[] | undefined,
    method: number | undefined,
    url: string | undefined,
    status: number | undefined,
  ): number => {
    current = {
      method: method === undefined ? '' : (methods[method] ?? ''),
      target: url ?? target,
      status: status ?? 0,
      fields: all ?? fields,
      trailers: [],
      body: '',
      isWhole: false,
    }
    fields = []
    target = ''
    messages.push(current)
    if (type === 'REQUEST' || (status ?? 0) < 200) return 0
    return requestMethods[final++] === 'HEAD' ? 1 : 0
  }
  parser[HTTPParser.kOnBody] = (piece: Buffer) => {
    if (current !== null) current.body += piece.toString('latin1')
  }
  parser[HTTPParser.kOnMessageComplete] = () => {
    if (current !== null) current.isWhole = true
    current = null
  }
  const result = parser.execute(bytes)
  const failure = typeof result === 'number' ? undefined : result
  return { messages, error: failure === undefined ? '' : (failure.code ?? failure.message) }
}
