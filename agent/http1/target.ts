/**
 * Owns the strictness of request targets and authorities (RFC 9112 §3.2, RFC 3986 §3.2). What two
 * programs could read differently is refused: user information, escapes in hosts, fragments, and
 * backslashes in paths. Pure.
 */

import { hostBytes } from './bytes.ts'

/**
 * Whether text is a host with an optional port, in a spelling that every reader takes alike: a name
 * or IPv4 address, or an IPv6 address in brackets.
 */
export function isAuthority(text: string): boolean {
  const { length } = text
  let at = 0
  if (text.charCodeAt(0) === 0x5b) {
    at = text.indexOf(']') + 1
    if (at < 4 || !/^[0-9A-Fa-f:.]+$/.test(text.slice(1, at - 1))) return false
  } else {
    while (at < length && hostBytes[text.charCodeAt(at)] === 1) at++
    if (at === 0) return false
  }
  return at === length || isPort(text, at)
}

/** Whether `:` and one to five digits stand at the end of text. */
function isPort(text: string, at: number): boolean {
  const digits = text.length - at - 1
  if (text.charCodeAt(at) !== 0x3a || digits < 1 || digits > 5) return false
  for (let i = at + 1; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code < 0x30 || code > 0x39) return false
  }
  return true
}

/** A target in absolute form, taken apart. */
export interface AbsoluteTarget {
  readonly authority: string
  /** In origin form; empty where the URL ends with its authority. */
  readonly target: string
}

const absoluteForm = /^http:\/\/([^/?]+)(\/[^?]*)?(\?.*)?$/i

/** Takes an absolute-form target apart (RFC 9112 §3.2.2); null where it is none of scheme http. */
export function splitAbsolute(target: string): AbsoluteTarget | null {
  const [whole, authority = '', path = '', query = ''] = absoluteForm.exec(target) ?? []
  if (whole === undefined || !isAuthority(authority)) return null
  return { authority, target: path === '' && query !== '' ? `/${query}` : path + query }
}

/** Whether two authorities are the same place under scheme http. */
export function sameAuthority(a: string, b: string): boolean {
  return a === b || plainAuthority(a) === plainAuthority(b)
}

function plainAuthority(text: string): string {
  return text.toLowerCase().replace(/:0*80$/, '')
}

/** Whether a backslash stands in the path, where some services take it for a slash. */
export function hasBackslashPath(target: string): boolean {
  const backslash = target.indexOf('\\')
  if (backslash < 0) return false
  const query = target.indexOf('?')
  return query < 0 || backslash < query
}
