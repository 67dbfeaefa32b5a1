/**
 * Owns the paths of rules: `/a` exactly, `/a*` whatever begins so, `/a/*` a path and everything below
 * it, `{name}` for one segment. No regular expressions: what a rule says is seen by looking at it,
 * and no path makes it slow. Pure.
 */

import { foldPath } from '#shared/model/folded-path.ts'
import type { Parsed } from '#shared/model/names.ts'
import type { PathPattern } from '#shared/model/policy.ts'

const slash = 0x2f
const brace = 0x7b

/** Reads a pattern; it is written decoded, so that there is one spelling of it. */
export function parsePathPattern(text: string): Parsed<PathPattern> {
  const bad = (why: string): Parsed<never> => ({
    ok: false,
    problem: `path ${JSON.stringify(text.slice(0, 300))} ${why}`,
  })
  if (!text.startsWith('/')) return bad('must begin with /')
  const kind = text.endsWith('/*') ? 'subtree' : text.endsWith('*') ? 'prefix' : 'exact'
  const stem = kind === 'subtree' ? text.slice(0, -2) : kind === 'prefix' ? text.slice(0, -1) : text
  if (stem.includes('*')) return bad('holds a * that is not at its end')
  if (/[\\?#;\p{Cc}]/u.test(stem)) return bad('holds a character that no path can have')
  if (stem.includes('%')) return bad('holds a %: write the character itself, not its escape')
  const segments = stem.split('/').slice(1)
  const last = segments.length - 1
  if (segments.some((one, i) => one === '' && (i < last || kind === 'subtree'))) {
    return bad('holds an empty segment (//)')
  }
  if (segments.some((one) => one === '.' || one === '..')) return bad('holds a dot segment')
  const holes = segments.filter((one) => /[{}]/.test(one))
  if (holes.some((one) => !/^\{[A-Za-z0-9_-]+\}$/.test(one))) {
    return bad('has braces that are not one whole segment such as {id}')
  }
  if (kind === 'prefix' && stem.endsWith('}')) return bad('ends in a template and *; write {id}/*')
  return { ok: true, value: { text: stem, kind, template: holes.length > 0 } }
}

/** The pattern for comparing folded paths. */
export function foldedPattern(pattern: PathPattern): PathPattern {
  const { text, kind } = pattern
  // The blanks and dots at the end of a prefix are in the middle of what begins with it.
  const folded = kind === 'prefix' ? foldPath(`${text}\u0001`).slice(0, -1) : foldPath(text)
  return { ...pattern, text: kind === 'subtree' && folded === '/' ? '' : folded }
}

/** Whether a path fits. Both decoded, or both folded. */
export function fitsPath(pattern: PathPattern, path: string): boolean {
  const { text, kind, template } = pattern
  const end = template ? endOfTemplate(text, path) : path.startsWith(text) ? text.length : -1
  if (end < 0) return false
  switch (kind) {
    case 'exact':
      return end === path.length
    case 'prefix':
      return true
    case 'subtree':
      return end === path.length || path.charCodeAt(end) === slash
  }
}

/** Where the template ends in the path; -1 where it does not fit. */
function endOfTemplate(text: string, path: string): number {
  let at = 0
  for (let i = 0; i < text.length;) {
    if (text.charCodeAt(i) === brace) {
      const start = at
      while (at < path.length && path.charCodeAt(at) !== slash) at++
      if (at === start) return -1
      i = text.indexOf('}', i) + 1
    } else {
      if (path.charCodeAt(at) !== text.charCodeAt(i)) return -1
      at++
      i++
    }
  }
  return at
}
