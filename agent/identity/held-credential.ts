/**
 * Owns a credential as the agent keeps it: the checks of one that was just issued or read back from
 * a file. Id, serial and end are always read from the certificate itself, never from what stands
 * beside it.
 */

import { X509Certificate } from 'node:crypto'
import type { CredentialMessage } from '#agent/workers/messages.ts'
import type { Clock, Random } from '#shared/lifecycle/clock.ts'
import type { Parsed } from '#shared/model/names.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import { splitSpiffeId } from '#shared/model/spiffe-id.ts'
import { renewAfterMs } from '#shared/pki/half-life.ts'
import { keyFromPem } from '#shared/pki/keys.ts'
import { readSvid } from '#shared/pki/svid.ts'
import { splitPem } from '#shared/pki/trust.ts'

/** A credential with the time it is to be renewed at. */
export interface HeldCredential extends CredentialMessage {
  /** Milliseconds since the epoch. */
  readonly renewAtMs: number
}

/** Makes a credential of a chain and the key it should be for; refuses any other identity. */
export function readCredential(
  chainPem: string,
  keyPem: string,
  expected: SpiffeId,
): Parsed<CredentialMessage> {
  const chain = splitPem(chainPem)
  const key = keyFromPem(keyPem)
  const [leaf] = chain.ok ? chain.value : []
  if (leaf === undefined || key === null) {
    return { ok: false, problem: 'certificate or key cannot be read' }
  }
  if (!new X509Certificate(leaf.raw).checkPrivateKey(key)) {
    return { ok: false, problem: 'the certificate is for another key' }
  }
  const parts = splitSpiffeId(expected)
  if (!parts.ok) return parts
  const svid = readSvid(leaf.raw, parts.value.trustDomain)
  if (!svid.ok) return svid
  const { id, serial, notAfterMs } = svid.value
  return id === expected
    ? { ok: true, value: { id, chainPem, keyPem, serial, notAfterMs } }
    : { ok: false, problem: `the certificate is for ${id}, not ${expected}` }
}

/** Makes one that was just issued ready to be held: with its time of renewal. */
export function holdCredential(
  parts: { readonly clock: Clock; readonly random: Random },
  chainPem: string,
  keyPem: string,
  expected: SpiffeId,
): Parsed<HeldCredential> {
  const credential = readCredential(chainPem, keyPem, expected)
  if (!credential.ok) return credential
  const now = parts.clock.now()
  const { notAfterMs } = credential.value
  if (notAfterMs <= now) {
    const ended = new Date(notAfterMs).toISOString()
    return {
      ok: false,
      problem: `the certificate just issued for ${expected} ended at ${ended}; set this host's clock`,
    }
  }
  const renewAtMs = now + renewAfterMs(notAfterMs - now, parts.random.fraction())
  return { ok: true, value: { ...credential.value, renewAtMs } }
}
