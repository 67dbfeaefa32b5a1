/**
 * Owns the reading and writing of trust records' bodies and of hosts' reports about trust: JSON
 * checked against one schema each. Signatures are not its business.
 */

import { Type } from 'typebox'
import { Compile } from 'typebox/compile'
import type { HostName, Parsed } from '#shared/model/names.ts'
import type { Bans, MeshPolicies, RootName, TrustBundle, TrustReport } from '#shared/model/trust.ts'

const host = '^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$'
const serial = '^(?:0|[1-9a-f][0-9a-f]{0,39})$'
const root = '^[0-9a-f]{16}$'

const bundle = Compile(
  Type.Object({
    roots: Type.Array(Type.String({ minLength: 1, maxLength: 16_384 }), {
      minItems: 1,
      maxItems: 8,
    }),
    issuing: Type.String({ pattern: root }),
    spreadMs: Type.Integer({ minimum: 0, maximum: 86_400_000 }),
    rotation: Type.Optional(
      Type.Object({
        phase: Type.Enum(['distributing', 'forward', 'back']),
        sinceMs: Type.Integer({ minimum: 0 }),
      }),
    ),
  }),
)
const ban = Type.Object({
  reason: Type.String({ maxLength: 300 }),
  by: Type.String({ maxLength: 400 }),
  at: Type.String({ maxLength: 40 }),
})
const bans = Compile(
  Type.Object({
    hosts: Type.Record(Type.String({ pattern: host }), ban, { additionalProperties: false }),
    serials: Type.Record(Type.String({ pattern: serial }), ban, { additionalProperties: false }),
  }),
)
const count = Type.Integer({ minimum: 0 })
const byRoot = Type.Record(Type.String({ maxLength: 16 }), count)
const report = Compile(
  Type.Object({
    host: Type.String({ pattern: host }),
    epochs: Type.Object({ bundle: count, bans: count }),
    held: byRoot,
    handshakes: byRoot,
    problem: Type.String({ maxLength: 1000 }),
  }),
)

/** Reads the body of the trust bundle's record. */
export function decodeBundle(text: string): Parsed<TrustBundle> {
  const raw = parse(text)
  if (!bundle.Check(raw)) return malformed('trust bundle')
  const { roots, spreadMs, rotation } = raw
  const issuing = raw.issuing as RootName
  const value = { roots, issuing, spreadMs }
  return { ok: true, value: rotation === undefined ? value : { ...value, rotation } }
}

/** Reads the body of the bans' record. */
export function decodeBans(text: string): Parsed<Bans> {
  const raw = parse(text)
  if (!bans.Check(raw)) return malformed('list of bans')
  const { hosts, serials } = raw
  return { ok: true, value: { hosts, serials } }
}

/** Reads what a host says about its trust. */
export function decodeTrustReport(text: string): Parsed<TrustReport> {
  const raw = text.length > 65_536 ? null : parse(text)
  if (!report.Check(raw)) return malformed('trust report')
  return { ok: true, value: { ...raw, host: raw.host as HostName } }
}

/** Writes a body; members in one order, so that equal bodies are equal texts. */
export function encodeTrust(value: TrustBundle | Bans | MeshPolicies | TrustReport): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).toSorted(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  )
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

function malformed(what: string): { readonly ok: false; readonly problem: string } {
  return { ok: false, problem: `the ${what} is malformed` }
}
