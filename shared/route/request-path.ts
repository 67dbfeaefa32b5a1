/**
 * Owns the one reading of a request target's path (RFC 3986 §3.3, §6.2.2). A spelling that one program
 * decodes, merges, cuts or resolves and another does not has no reading but a problem. It is never
 * repaired: what goes on to the service is what the caller wrote.
 */

import { foldPath } from '#shared/model/folded-path.ts'
import type { RequestPath } from '#shared/model/request.ts'

const slash = 0x2f
const percent = 0x25

/** Everything that keeps a path from being its own plain reading. */
const unplain = /[^!$&'()*+,\-./0-9:=@A-Z_a-z~]|\/\/|\/\.\.?(?:\/|$)/
const dotSegment = /\/\.\.?(?:\/|$)/
/** Characters that never need an escape (RFC 3986 §2.3). */
const unreserved = /[A-Za-z0-9\-._~]/
/** Characters that mean something else once decoded; `%` itself is looked at apart. */
const hidden = /[/\\?#;]/
/** What compatibility forms must not turn into. */
const delimiter = /[/\\?#;%.\p{Cc}]/u

/** Reads the path of a target in origin form, or `*`. */
export function readRequestPath(target: string): RequestPath {
  const end = target.indexOf('?')
  const raw = end < 0 ? target : target.slice(0, end)
  if (raw === '*') return { problem: '', text: raw, folded: raw }
  if (raw.charCodeAt(0) !== slash) return ambiguous('it does not begin with /')
  if (!unplain.test(raw)) return { problem: '', text: raw, folded: foldPath(raw) }
  if (raw.includes('//')) return ambiguous('it holds an empty segment (//)')
  if (dotSegment.test(raw)) return ambiguous('it holds a dot segment (/./ or /../)')
  if (raw.includes('\\')) return ambiguous('it holds a backslash')
  if (raw.includes(';')) return ambiguous('it holds path parameters (;)')
  if (raw.includes('#')) return ambiguous('it holds a fragment (#)')
  return decoded(raw)
}

/** What stands behind the path; empty without a `?`. */
export function queryOf(target: string): string {
  const at = target.indexOf('?')
  return at < 0 ? '' : target.slice(at + 1)
}

function decoded(raw: string): RequestPath {
  let text = ''
  for (let at = 0; at < raw.length;) {
    if (raw.charCodeAt(at) !== percent) {
      text += raw[at] as string
      at++
      continue
    }
    const size = escapeLength(raw, at)
    const piece = raw.slice(at, at + size)
    if (size === 0) return ambiguous(`${show(raw.slice(at, at + 3))} is no escape`)
    let char: string
    try {
      char = decodeURIComponent(piece)
    } catch {
      return ambiguous(`${show(piece)} is no UTF-8`)
    }
    const problem = problemOf(char, piece, raw, at + size)
    if (problem !== '') return ambiguous(problem)
    text += char
    at += size
  }
  return { problem: '', text, folded: foldPath(text) }
}

/** Why an escape has more than one reading; empty where it has not. */
function problemOf(char: string, piece: string, raw: string, next: number): string {
  if (char === '%') {
    return /^[0-9A-Fa-f]{2}/.test(raw.slice(next, next + 2))
      ? `${show(raw.slice(next - 3, next + 2))} is escaped twice`
      : ''
  }
  if (hidden.test(char)) return `${show(piece)} hides ${show(char)}`
  if (unreserved.test(char))
    return `${show(piece)} is an escape for ${show(char)}, which needs none`
  if (/\p{Cc}/u.test(char)) return `${show(piece)} is a control character`
  // Some systems take the wide forms of / and . for the characters themselves.
  if (char > '\x7f' && delimiter.test(char.normalize('NFKC'))) {
    return `${show(piece)} resembles ${show(char.normalize('NFKC'))}`
  }
  return ''
}

/** Length of the escapes that make one character; 0 where there is none. */
function escapeLength(raw: string, at: number): number {
  const first = byteAt(raw, at)
  if (first < 0) return 0
  const bytes = first < 0xc0 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4
  for (let i = 1; i < bytes; i++) if (byteAt(raw, at + 3 * i) < 0) return 3
  return 3 * bytes
}

/** The byte of the escape at `at`; -1 where there is none. */
function byteAt(raw: string, at: number): number {
  const hex = raw.slice(at + 1, at + 3)
  return raw.charCodeAt(at) === percent && /^[0-9A-Fa-f]{2}$/.test(hex)
    ? Number.parseInt(hex, 16)
    : -1
}

function ambiguous(problem: string): RequestPath {
  return { problem, text: '', folded: '' }
}

function show(text: string): string {
  return JSON.stringify(text)
}
