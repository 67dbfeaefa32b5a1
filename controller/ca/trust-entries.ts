/**
 * Owns what a trust record is to a controller: which there are, how each is signed and read, and
 * which of two counts that were signed at the same epoch. It keeps nothing and asks no store.
 */

import type { Parsed } from '#shared/model/names.ts'
import type { Bans, MeshPolicies, TrustBundle } from '#shared/model/trust.ts'
import type { Opened, RecordTrust } from '#shared/pki/signed-record.ts'
import { judgeRecord, signRecord, splitRecord } from '#shared/pki/signed-record.ts'
import { decodePolicies } from '#shared/schema/mesh-policies.ts'
import { decodeBans, decodeBundle, encodeTrust } from '#shared/schema/trust.ts'
import type { StoreKey } from '#shared/store/keys.ts'
import { bansKey, bundleKey, policiesKey } from '#shared/store/keys.ts'
import type { Authority } from './authority.ts'

/** One record. */
export interface TrustEntry<Body> {
  readonly epoch: number
  readonly body: Body
  /** As the store has it. */
  readonly text: string
  readonly signerPem: string
}

/** Every record there is. */
export interface TrustEntries {
  readonly bundle: TrustEntry<TrustBundle>
  readonly bans: TrustEntry<Bans>
  readonly policies: TrustEntry<MeshPolicies>
}

/** Name of a record. */
export type TrustName = keyof TrustEntries
type BodyOf<N extends TrustName> = TrustEntries[N]['body']

/** Every name, in the order in which records are to be known. */
export const trustNames = ['bundle', 'bans', 'policies'] as const satisfies readonly TrustName[]

/** Where each stands in the store. */
export const trustKeys: Readonly<Record<TrustName, StoreKey>> = {
  bundle: bundleKey,
  bans: bansKey,
  policies: policiesKey,
}

const decoders: { readonly [N in TrustName]: (text: string) => Parsed<BodyOf<N>> } = {
  bundle: decodeBundle,
  bans: decodeBans,
  policies: decodePolicies,
}

/** Signs a record. */
export function signEntry<N extends TrustName>(
  { signer }: Pick<Authority, 'signer'>,
  name: N,
  epoch: number,
  body: BodyOf<N>,
): TrustEntries[N] {
  const text = signRecord(signer, { key: trustKeys[name], epoch, body: encodeTrust(body) })
  return { epoch, body, text, signerPem: signer.certificatePem } as TrustEntries[N]
}

/** Reads a record from our own disk, which needs no signature to be believed. */
export function readKeptEntry<N extends TrustName>(name: N, text: string): Parsed<TrustEntries[N]> {
  const record = splitRecord(text)
  if (!record.ok) return record
  const body = decoders[name](record.value.body)
  if (!body.ok) return body
  const { epoch, signerPem } = record.value
  return { ok: true, value: { epoch, body: body.value, text, signerPem } as TrustEntries[N] }
}

/** Reads a record from the store; `above` is the epoch that it has to exceed. */
export function readStoredEntry<N extends TrustName>(
  name: N,
  text: string,
  trust: RecordTrust,
  above: number,
): Opened<TrustEntries[N]> {
  const judged = judgeRecord(text, trustKeys[name], trust, { above, decode: decoders[name] })
  if (!judged.ok) return judged
  const { epoch, decoded: body, signerPem } = judged.value
  return { ok: true, value: { epoch, body, text, signerPem } as TrustEntries[N] }
}

/** Whether two records say the same. */
export function saysSame(one: TrustEntry<object>, other: TrustEntry<object>): boolean {
  return encodeTrust(one.body as BodyOf<TrustName>) === encodeTrust(other.body as BodyOf<TrustName>)
}

/** Whoever is banned by either. */
export function unionOf(one: Bans, other: Bans): Bans {
  return {
    hosts: { ...one.hosts, ...other.hosts },
    serials: { ...one.serials, ...other.serials },
  }
}
