/**
 * Owns the rules for header fields in HTTP/2 messages (RFC 9113 §8): what a request, a response and
 * trailers must look like. A message that breaks one is malformed, and nothing of it is passed on.
 * Pure.
 */

import type { HeaderField } from './header-field.ts'

/** A well-formed request. */
export interface RequestHead {
  readonly method: string
  /** Null for CONNECT. */
  readonly scheme: string | null
  /** Host and port for CONNECT; null where the request named none. */
  readonly authority: string | null
  /** Null for CONNECT. */
  readonly path: string | null
  /** Bytes of content announced, or null. */
  readonly contentLength: number | null
  /** All but pseudo-header fields, in order. */
  readonly fields: readonly HeaderField[]
}

/** A well-formed response. */
export interface ResponseHead {
  readonly status: number
  /** Bytes of content announced, or null. */
  readonly contentLength: number | null
  /** All but pseudo-header fields, in order. */
  readonly fields: readonly HeaderField[]
}

/** A head, or why it is malformed. */
export type Judged<T> =
  { readonly ok: true; readonly head: T } | { readonly ok: false; readonly problem: string }

interface Sorted {
  readonly pseudo: Map<string, string>
  readonly fields: HeaderField[]
  contentLength: number | null
}

const connectionSpecific: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
])
const requestPseudo: ReadonlySet<string> = new Set([':method', ':scheme', ':authority', ':path'])
const responsePseudo: ReadonlySet<string> = new Set([':status'])
const noPseudo: ReadonlySet<string> = new Set()

/** tchar of RFC 9110 §5.6.2 without upper case (RFC 9113 §8.2.1). */
const nameBytes = byteTable("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")
const method = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
const scheme = /^[A-Za-z][A-Za-z0-9+\-.]*$/
const authority = /^[A-Za-z0-9\-._~%!$&'()*+,;=:[\]]+$/
const hostAndPort = /^(?:\[[0-9A-Fa-f:.]+\]|[^:[\]]+):[0-9]{1,5}$/
const pathText = /^[\x21-\x7e\x80-\xff]+$/

/** Judges a request's fields (RFC 9113 §8.3.1, CONNECT: §8.5). */
export function judgeRequest(list: readonly HeaderField[]): Judged<RequestHead> {
  const sorted = sort(list, requestPseudo)
  if (typeof sorted === 'string') return malformed(sorted)
  const { pseudo, fields, contentLength } = sorted
  const head: RequestHead = {
    method: pseudo.get(':method') ?? '',
    scheme: pseudo.get(':scheme') ?? null,
    authority: pseudo.get(':authority') ?? null,
    path: pseudo.get(':path') ?? null,
    contentLength,
    fields,
  }
  if (!method.test(head.method)) return malformed(':method is missing or no token')
  if (head.authority !== null && !authority.test(head.authority)) {
    return malformed(':authority is no host')
  }
  const problem = head.method === 'CONNECT' ? connectProblem(head) : targetProblem(head)
  return problem === '' ? { ok: true, head } : malformed(problem)
}

/** Judges a response's fields (RFC 9113 §8.3.2). */
export function judgeResponse(list: readonly HeaderField[]): Judged<ResponseHead> {
  const sorted = sort(list, responsePseudo)
  if (typeof sorted === 'string') return malformed(sorted)
  const status = sorted.pseudo.get(':status') ?? ''
  if (!/^[1-5][0-9][0-9]$/.test(status)) return malformed(':status is missing or no status')
  // RFC 9113 §8.6: there are no upgrades.
  if (status === '101') return malformed('status 101')
  const { contentLength, fields } = sorted
  return { ok: true, head: { status: Number(status), contentLength, fields } }
}

/** Judges trailers (RFC 9113 §8.1): the problem, or an empty string. */
export function trailerProblem(list: readonly HeaderField[]): string {
  const sorted = sort(list, noPseudo)
  return typeof sorted === 'string' ? sorted : ''
}

function connectProblem(head: RequestHead): string {
  if (head.scheme !== null || head.path !== null) return 'CONNECT with :scheme or :path'
  if (!hostAndPort.test(head.authority ?? '')) return 'CONNECT without host and port'
  return head.contentLength === null ? '' : 'CONNECT with content-length'
}

function targetProblem(head: RequestHead): string {
  if (!scheme.test(head.scheme ?? '')) return ':scheme is missing or wrong'
  const path = head.path ?? ''
  const asterisk = path === '*' && head.method === 'OPTIONS'
  if (!asterisk && !(path.startsWith('/') && pathText.test(path)))
    return ':path is missing or wrong'
  const host = head.fields.find((field) => field.name === 'host')?.value
  const differs =
    host !== undefined &&
    head.authority !== null &&
    host.toLowerCase() !== head.authority.toLowerCase()
  return differs ? 'host and :authority differ' : ''
}

/** Parts pseudo-header fields from the others and checks each; answers the problem as text. */
function sort(list: readonly HeaderField[], allowed: ReadonlySet<string>): Sorted | string {
  const sorted: Sorted = { pseudo: new Map(), fields: [], contentLength: null }
  let hosts = 0
  for (const field of list) {
    const { name, value } = field
    if (!isValue(value)) return `the value of ${printable(name)} has bytes it must not have`
    if (name.startsWith(':')) {
      if (!allowed.has(name)) return `${printable(name)} is not allowed here`
      if (sorted.fields.length > 0) return `${name} after other fields`
      if (sorted.pseudo.has(name)) return `${name} twice`
      sorted.pseudo.set(name, value)
      continue
    }
    if (!isName(name)) return `${printable(name)} is no lower-case field name`
    if (connectionSpecific.has(name)) return `${name} is for HTTP/1.1 connections`
    if (name === 'te' && value !== 'trailers') return 'te other than "trailers"'
    if (name === 'host' && ++hosts > 1) return 'host twice'
    if (name === 'content-length') {
      if (!/^[0-9]{1,15}$/.test(value)) return 'content-length is no length'
      const bytes = Number(value)
      if ((sorted.contentLength ?? bytes) !== bytes) return 'two values of content-length'
      sorted.contentLength = bytes
    }
    sorted.fields.push(field)
  }
  return sorted
}

function isName(name: string): boolean {
  for (let i = 0; i < name.length; i++) {
    if (nameBytes[name.charCodeAt(i)] !== 1) return false
  }
  return name !== ''
}

/** No control characters but tabs inside, no white space at the ends (RFC 9113 §8.2.1). */
function isValue(value: string): boolean {
  for (let i = 0; i < value.length; i++) {
    const code = value.charCodeAt(i)
    if ((code < 0x20 && code !== 0x09) || code === 0x7f) return false
  }
  return (
    value === '' || !(isBlank(value.charCodeAt(0)) || isBlank(value.charCodeAt(value.length - 1)))
  )
}

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09
}

function byteTable(characters: string): Uint8Array {
  const table = new Uint8Array(256)
  for (const character of characters) table[character.charCodeAt(0)] = 1
  return table
}

function printable(name: string): string {
  return JSON.stringify(name.slice(0, 64))
}

function malformed<T>(problem: string): Judged<T> {
  return { ok: false, problem }
}
