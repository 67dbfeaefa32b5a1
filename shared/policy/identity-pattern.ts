/**
 * Owns how policies name callers: `web`, `host/h1`, a whole SPIFFE id, each also as a prefix with `*`
 * at its end, and `*` for every identity of the mesh. Pure.
 */

import type { IdentityPattern } from '#shared/model/policy.ts'
import {
  parseServiceName,
  parseTrustDomain,
  type Parsed,
  type TrustDomain,
} from '#shared/model/names.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'

const scheme = 'spiffe://'
const whole = /^spiffe:\/\/([^/]*)\/(.*)$/
const kindAndName = /^(service|host|operator|controller)\/(.*)$/
/** How a name may begin. */
const nameStart = /^(?:[a-z0-9][a-z0-9-]{0,62})?$/

/** Reads a pattern. */
export function parseIdentityPattern(text: string): Parsed<IdentityPattern> {
  if (text === '*') return { ok: true, value: { kind: 'prefix', text: '' } }
  const isPrefix = text.endsWith('*')
  const bare = isPrefix ? text.slice(0, -1) : text
  if (bare.includes('*')) return bad(text, 'holds a * that is not at its end')
  const [, domain, below] = whole.exec(bare) ?? []
  const isWhole = bare.startsWith(scheme)
  // Without the slash behind it a prefix would reach into domains with longer names.
  if (isWhole && !parseTrustDomain(domain ?? '').ok) {
    return bad(text, 'must begin with spiffe://<trust domain>/')
  }
  const path = below ?? (kindAndName.test(bare) ? bare : `service/${bare}`)
  const [, , name] = kindAndName.exec(path) ?? []
  if (isPrefix) {
    const isAll = isWhole && path === ''
    if (!isAll && (name === undefined || !nameStart.test(name))) {
      return bad(text, 'begins no service/, host/, operator/ or controller/ name')
    }
  } else {
    const parsed = parseServiceName(name ?? path)
    if (!parsed.ok || name === undefined) {
      return bad(text, parsed.ok ? 'names no kind of identity' : `is no name: ${parsed.problem}`)
    }
  }
  const kind = isPrefix ? 'prefix' : 'exact'
  return { ok: true, value: { kind, text: isWhole ? bare : path } }
}

/** The pattern in a mesh of this trust domain: a whole id, or the beginning of one. */
export function absolutePattern(
  { kind, text }: IdentityPattern,
  trustDomain: TrustDomain,
): IdentityPattern {
  return { kind, text: text.startsWith(scheme) ? text : `${scheme}${trustDomain}/${text}` }
}

/** Whether a caller fits an absolute pattern; one without identity fits none. */
export function fitsIdentity({ kind, text }: IdentityPattern, source: SpiffeId | null): boolean {
  if (source === null) return false
  return kind === 'exact' ? source === text : source.startsWith(text)
}

function bad(text: string, why: string): Parsed<never> {
  return { ok: false, problem: `${JSON.stringify(text.slice(0, 300))} ${why}` }
}
