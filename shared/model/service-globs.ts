/** Owns the globs that say which services a host may speak for: `*` for any run of characters. Pure. */

import type { Parsed, ServiceName } from './names.ts'

const glob = /^(?=.{1,63}$)[a-z0-9*](?:[a-z0-9*-]*[a-z0-9*])?$/
const maxGlobs = 100

/** Checks a list of globs; white space and upper case are refused, not mended. */
export function parseServiceGlobs(texts: readonly string[]): Parsed<readonly string[]> {
  if (texts.length === 0) {
    return { ok: false, problem: 'no services given; use "*" for all of them' }
  }
  if (texts.length > maxGlobs) {
    return { ok: false, problem: `${texts.length} service globs, more than ${maxGlobs}` }
  }
  const bad = texts.find((text) => !glob.test(text))
  return bad === undefined
    ? { ok: true, value: texts }
    : {
        ok: false,
        problem: `service glob ${JSON.stringify(bad.slice(0, 100))} must be a service name in which "*" may stand for any characters`,
      }
}

/** Whether any glob covers the service. No regular expression, so no glob can be slow. */
export function coversService(globs: readonly string[], service: ServiceName): boolean {
  return globs.some((glob) => covers(glob.split('*'), service))
}

function covers(parts: readonly string[], name: string): boolean {
  const [first = '', ...rest] = parts
  const last = rest.pop()
  if (last === undefined) return name === first
  if (!name.startsWith(first) || !name.endsWith(last)) return false
  const end = name.length - last.length
  let at = first.length
  for (const part of rest) {
    const found = name.indexOf(part, at)
    if (found === -1) return false
    at = found + part.length
  }
  return at <= end
}
