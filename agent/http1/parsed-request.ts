/**
 * Owns the reading of a request's head (RFC 9112 §3, §6): one pass, strict; what is ambiguous is
 * refused, never repaired. One object serves all requests of a connection, one after the other. It
 * moves no bytes and knows no time.
 */

import { cr, isDecimal, lf, methodBytes, space, targetBytes } from './bytes.ts'
import { ConnectionOptions } from './connection-options.ts'
import { kinds } from './field-kinds.ts'
import { FieldSection } from './field-section.ts'
import {
  needsMore,
  type Framing,
  type HeadFault,
  type HeadLimits,
  type RequestHead,
} from './head.ts'
import { protocolsOf } from './upgrade.ts'
import { hasBackslashPath, isAuthority, sameAuthority, splitAbsolute } from './target.ts'

const versionBytes = Buffer.from('HTTP/1.', 'latin1')

/** See the header. */
export class ParsedRequest implements RequestHead {
  readonly fields = new FieldSection()
  readonly connection = new ConnectionOptions()
  method = ''
  target = ''
  authority = ''
  absolute = false
  http11 = true
  framing: Framing = 'none'
  /** Of framing `length`. */
  contentLength = 0
  /** Whether the sender wants to keep the connection. */
  keepAlive = true
  /** The Upgrade field where `Connection: upgrade` asks for it; empty otherwise. */
  upgrade = ''
  expectsContinue = false
  /** It carries NTLM or Negotiate, which authenticate the connection (RFC 4559 §6). */
  connectionAuth = false
  /** `x-request-id` as it came; empty where there is none. */
  requestId = ''
  /** Whether the request line can go on as it came. */
  tidyLine = true
  /** HTTP/1.0 may go without. */
  hasHost = true

  get fault(): HeadFault {
    return this.fields.fault
  }

  value(name: string): string | null {
    return this.fields.value(name)
  }

  /**
   * Reads a head.
   * @returns the index after it, `needsMore`, or `refused` with {@link fault} set
   */
  read(bytes: Buffer, from: number, limits: HeadLimits): number {
    const { length } = bytes
    const { fields } = this
    let at = from
    const base = at
    // Half an empty line before a request; see `skipEmptyLines`.
    if (at + 1 === length && bytes[at] === cr) return needsMore
    while (at < length && methodBytes[bytes[at] as number] === 1) at++
    if (at === length) return needsMore
    const methodEnd = at
    if (bytes[at] !== space || at === base) return fields.refuse(badLine)
    const targetStart = ++at
    let seen = 0
    for (; at < length; at++) {
      const quality = targetBytes[bytes[at] as number] as number
      if (quality === 0) break
      seen |= quality
    }
    if (at - base > limits.maxBytes) {
      return fields.refuseSize(`the request line is larger than ${limits.maxBytes} bytes`)
    }
    if (at === length) return needsMore
    const targetEnd = at
    if (bytes[at] !== space || at === targetStart) return fields.refuse(badLine)
    at++
    for (const expected of versionBytes) {
      if (at >= length) return needsMore
      if (bytes[at++] !== expected) return fields.refuse(badVersion)
    }
    if (at + 2 >= length) return needsMore
    const minor = (bytes[at] as number) - 0x30
    if (minor !== 0 && minor !== 1) return fields.refuse(badVersion)
    if (bytes[at + 1] !== cr || bytes[at + 2] !== lf) return fields.refuse(badLine)
    const end = fields.read(bytes, at + 3, base, limits)
    if (end < 0) return end
    fields.keep(bytes, end)
    this.method = fields.text.slice(0, methodEnd - base)
    this.target = fields.text.slice(targetStart - base, targetEnd - base)
    this.http11 = this.tidyLine = minor === 1
    const problem = this.#interpretFields() ?? this.#interpretTarget((seen & 2) === 2)
    return problem === null ? end : problem
  }

  /** What the noted fields mean; the answer of a refusal, or null. */
  #interpretFields(): number | null {
    const { fields, connection } = this
    this.authority = this.upgrade = this.requestId = ''
    this.framing = 'none'
    this.contentLength = 0
    this.expectsContinue = this.connectionAuth = false
    connection.reset()
    let hosts = 0
    let lengths = 0
    let encodings = 0
    for (let i = 0; i < fields.noted; i++) {
      switch (fields.kindAt(i)) {
        case kinds.host:
          if (++hosts > 1) return fields.refuse('more than one Host field')
          this.authority = fields.valueAt(i)
          if (this.authority !== '' && !isAuthority(this.authority)) {
            return fields.refuse('the Host field is not a host with an optional port')
          }
          break
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
          this.upgrade = joined(this.upgrade, fields.valueAt(i))
          break
        case kinds.expect:
          if (fields.valueAt(i).toLowerCase() !== '100-continue') {
            return fields.refuse('an Expect field other than 100-continue')
          }
          this.expectsContinue = true
          break
        case kinds.authentication:
          if (/^(?:ntlm|negotiate)\b/i.test(fields.valueAt(i))) this.connectionAuth = true
          break
        case kinds.requestId:
          if (this.requestId === '') this.requestId = fields.valueAt(i)
          break
        case kinds.lookalike:
          return fields.refuse('a field name that some services take for one that frames or routes')
        case kinds.plain:
        case kinds.hop:
        case kinds.forwarding:
        case kinds.identity:
        case kinds.mesh:
        case kinds.meshReason:
        case kinds.nominated:
        case kinds.disguise:
          break
      }
    }
    this.hasHost = hosts > 0
    if (!this.hasHost && this.http11) return fields.refuse('HTTP/1.1 needs a Host field')
    if (encodings > 0) {
      if (lengths > 0) return fields.refuse('both Content-Length and Transfer-Encoding')
      if (!this.http11) return fields.refuse('Transfer-Encoding in an HTTP/1.0 request')
      this.framing = 'chunked'
    } else if (this.contentLength > 0) this.framing = 'length'
    return this.#interpretConnection()
  }

  #interpretConnection(): number | null {
    const { fields, connection } = this
    this.keepAlive = !connection.close && (this.http11 || connection.keepAlive)
    if (!connection.upgrade || !this.http11) this.upgrade = ''
    if (this.upgrade !== '') {
      const protocols = protocolsOf(this.upgrade)
      if (protocols === null) return fields.refuse('the Upgrade field is not a list of protocols')
      this.upgrade = protocols
    }
    if (this.framing === 'none' || !this.http11) this.expectsContinue = false
    const { nominated } = connection
    if (nominated === null) return null
    for (const name of ['host', 'content-length', 'transfer-encoding']) {
      if (nominated.has(name)) return fields.refuse(`the Connection field names ${name}`)
    }
    fields.nominate(nominated)
    return null
  }

  #interpretTarget(hasBackslash: boolean): number | null {
    const { fields, target, method } = this
    this.absolute = false
    if (method === 'CONNECT' || method === 'TRACE') {
      return fields.refuse(`${method} is not carried by the mesh`, 'method-refused')
    }
    if (target.charCodeAt(0) !== 0x2f) {
      if (target === '*' && method === 'OPTIONS') return null
      const parts = splitAbsolute(target)
      if (parts === null) return fields.refuse('the target is neither a path nor an http:// URL')
      if (this.hasHost && !sameAuthority(this.authority, parts.authority)) {
        return fields.refuse('the Host field and the target name different hosts')
      }
      if (!this.hasHost) this.authority = parts.authority
      // RFC 9112 §3.2.4: asked of the whole server.
      this.target = method === 'OPTIONS' && parts.target === '' ? '*' : parts.target || '/'
      this.absolute = true
      this.tidyLine = false
    }
    return hasBackslash && hasBackslashPath(this.target)
      ? fields.refuse('a backslash in the path, which some services take for a slash')
      : null
  }
}

const badLine = 'the first line is not a request line'
const badVersion = 'the version is neither HTTP/1.1 nor HTTP/1.0'

function joined(before: string, value: string): string {
  return before === '' ? value : `${before}, ${value}`
}

/** Where a request begins: empty lines before it are forgiven (RFC 9112 §2.2). */
export function skipEmptyLines(bytes: Buffer, from: number): number {
  let at = from
  while (bytes[at] === cr && bytes[at + 1] === lf) at += 2
  return at
}
