/**
 * Owns the reading of a response's head (RFC 9112 §4, §6): one pass, strict. One object serves all
 * responses of a connection, one after the other. It moves no bytes and knows no time.
 */

import { cr, isDecimal, lf, space, valueBytes } from './bytes.ts'
import { ConnectionOptions } from './connection-options.ts'
import { kinds } from './field-kinds.ts'
import { FieldSection } from './field-section.ts'
import { protocolsOf } from './upgrade.ts'
import { needsMore, type Framing, type HeadFault, type HeadLimits } from './head.ts'

const versionBytes = Buffer.from('HTTP/1.', 'latin1')

/** See the header. */
export class ParsedResponse {
  readonly fields = new FieldSection()
  readonly connection = new ConnectionOptions()
  status = 0
  http11 = true
  framing: Framing = 'none'
  /** Of framing `length`. */
  contentLength = 0
  /** Whether the sender lets the connection serve another request. */
  keepAlive = true
  /** The Upgrade field where `Connection: upgrade` goes with it; empty otherwise. */
  upgrade = ''
  /** NTLM and Negotiate authenticate the connection: it must never serve another request. */
  connectionAuth = false
  /** `x-mesh-reason` as it came; to be believed from a peer agent only. */
  meshReason = ''
  /** Whether the status line can go on as it came. */
  tidyLine = true

  get fault(): HeadFault {
    return this.fields.fault
  }

  /** The reason phrase, which nobody needs. */
  get phrase(): string {
    const { text } = this.fields
    return text.slice('HTTP/1.1 200 '.length, text.indexOf('\r\n'))
  }

  /**
   * Reads a head.
   * @param method of the request it answers: HEAD has no body
   * @returns the index after it, `needsMore`, or `refused` with {@link fault} set
   */
  read(bytes: Buffer, from: number, method: string, limits: HeadLimits): number {
    const { length } = bytes
    const { fields } = this
    let at = from
    for (const expected of versionBytes) {
      if (at >= length) return needsMore
      if (bytes[at++] !== expected) return fields.refuse(badLine)
    }
    if (at + 5 >= length) return needsMore
    const minor = (bytes[at] as number) - 0x30
    const [hundreds, tens, ones] = [bytes[at + 2], bytes[at + 3], bytes[at + 4]] as Triple
    const isStatus =
      isDigit(hundreds) && isDigit(tens) && isDigit(ones) && hundreds !== 0x30 && hundreds < 0x36
    if ((minor !== 0 && minor !== 1) || bytes[at + 1] !== space || !isStatus) {
      return fields.refuse(badLine)
    }
    this.status = (hundreds - 0x30) * 100 + (tens - 0x30) * 10 + ones - 0x30
    at += 5
    // RFC 9112 §4 wants a space before the phrase; servers that send no phrase often leave it out.
    const hasSpace = bytes[at] === space
    if (!hasSpace && bytes[at] !== cr) return fields.refuse(badLine)
    while (at < length && valueBytes[bytes[at] as number] === 1) at++
    if (at - from > limits.maxBytes) return fields.refuseSize('the status line is too long')
    if (at + 1 >= length) return needsMore
    if (bytes[at] !== cr || bytes[at + 1] !== lf) return fields.refuse(badLine)
    const end = fields.read(bytes, at + 2, from, limits)
    if (end < 0) return end
    fields.keep(bytes, end)
    this.http11 = minor === 1
    this.tidyLine = this.http11 && hasSpace
    const problem = this.#interpret(method)
    return problem === null ? end : problem
  }

  #interpret(method: string): number | null {
    const { fields, connection } = this
    this.upgrade = this.meshReason = ''
    this.contentLength = 0
    this.connectionAuth = false
    connection.reset()
    let lengths = 0
    let encodings = 0
    for (let i = 0; i < fields.noted; i++) {
      switch (fields.kindAt(i)) {
        case kinds.contentLength: {
          if (++lengths > 1) return fields.refuse('more than one Content-Length field')
          const value = fields.valueAt(i)
          if (!isDecimal(value)) return fields.refuse('Content-Length is not a number')
          this.contentLength = Number(value)
          break
        }
        case kinds.transferEncoding:
          if (++encodings > 1) return fields.refuse('more than one Transfer-Encoding field')
          if (fields.valueAt(i).toLowerCase() !== 'chunked' || fields.isPaddedAt(i)) {
            return fields.refuse('a Transfer-Encoding other than exactly chunked')
          }
          break
        case kinds.connection:
          if (!connection.add(fields.valueAt(i))) {
            return fields.refuse('the Connection field is not a list of names')
          }
          break
        case kinds.upgrade:
          this.upgrade = this.upgrade === '' ? (protocolsOf(fields.valueAt(i)) ?? '') : ''
          break
        case kinds.authentication:
          if (/(?:^|,)[ \t]*(?:ntlm|negotiate)\b/i.test(fields.valueAt(i))) {
            this.connectionAuth = true
          }
          break
        case kinds.meshReason:
          if (this.meshReason === '') this.meshReason = fields.valueAt(i)
          break
        case kinds.plain:
        case kinds.host:
        case kinds.expect:
        case kinds.hop:
        case kinds.requestId:
        case kinds.forwarding:
        case kinds.identity:
        case kinds.mesh:
        case kinds.nominated:
        case kinds.lookalike:
        case kinds.disguise:
          break
      }
    }
    if (encodings > 0 && lengths > 0) {
      return fields.refuse('both Content-Length and Transfer-Encoding')
    }
    if (encodings > 0 && !this.http11) {
      return fields.refuse('Transfer-Encoding in an HTTP/1.0 response')
    }
    if (!connection.upgrade) this.upgrade = ''
    this.framing = this.#framing(method, lengths > 0, encodings > 0)
    this.keepAlive =
      !connection.close && (this.http11 || connection.keepAlive) && this.framing !== 'until-close'
    const { nominated } = connection
    if (nominated !== null) {
      for (const name of ['content-length', 'transfer-encoding']) {
        if (nominated.has(name)) return fields.refuse(`the Connection field names ${name}`)
      }
      fields.nominate(nominated)
    }
    return null
  }

  #framing(method: string, hasLength: boolean, isChunked: boolean): Framing {
    const { status } = this
    if (method === 'HEAD' || status < 200 || status === 204 || status === 304) return 'none'
    if (isChunked) return 'chunked'
    if (!hasLength) return 'until-close'
    return this.contentLength === 0 ? 'none' : 'length'
  }
}

type Triple = readonly [number, number, number]

const badLine = 'the first line is not an HTTP/1.x status line'

function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39
}
