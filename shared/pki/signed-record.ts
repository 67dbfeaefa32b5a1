/**
 * Owns records that a controller signs: a body under a key with an epoch, the certificate of the
 * issuing CA that signed, and the signature over all of them. Whoever reads one needs nothing but the
 * trusted roots. What a body means, and which epoch is too low, is the reader's matter.
 */

import type { KeyObject } from 'node:crypto'
import { X509Certificate, sign, verify } from 'node:crypto'
import type { Parsed, TrustDomain } from '#shared/model/names.ts'
import { certificateToPem } from './trust.ts'

/** What signs: an issuing certificate and its key. */
export interface RecordSigner {
  /** One certificate, PEM, that a trusted root issued. */
  readonly certificatePem: string
  readonly key: KeyObject
}

/** A record found good. */
export interface SignedRecord {
  readonly epoch: number
  readonly body: string
  readonly signerPem: string
}

/** Whom a reader trusts, and when it reads. */
export interface RecordTrust {
  readonly roots: readonly X509Certificate[]
  readonly trustDomain: TrustDomain
  /** Milliseconds since the epoch. */
  readonly nowMs: number
}

/** Why a record does not count. */
export type RecordRefusal =
  /** Not a record at all, or its body is none of its kind. */
  | 'malformed'
  /** Nobody who is trusted signed it. */
  | 'signature'
  /** What is in force is newer, or as new. */
  | 'older'

/** A record opened, or why it does not count. */
export type Opened<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly reason: RecordRefusal; readonly problem: string }

/** No record needs more. Characters. */
const longest = 1024 * 1024

/** Signs `body` for `key`; the answer is what stands in the store. */
export function signRecord(
  signer: RecordSigner,
  record: { readonly key: string; readonly epoch: number; readonly body: string },
): string {
  const { key, epoch, body } = record
  const signature = sign('sha256', signedBytes(key, epoch, body), signer.key)
  return JSON.stringify({
    epoch,
    body,
    signer: signer.certificatePem,
    signature: signature.toString('base64url'),
  })
}

/** Takes a record apart without asking who signed it: for one's own files. */
export function splitRecord(text: string): Opened<SignedRecord & { readonly signature: Buffer }> {
  if (text.length > longest) return malformed(`is longer than ${longest} characters`)
  let raw: unknown
  try {
    raw = JSON.parse(text)
  } catch {
    return malformed('is not JSON')
  }
  const { epoch, body, signer, signature } = (raw ?? {}) as Readonly<Record<string, unknown>>
  if (!Number.isSafeInteger(epoch) || (epoch as number) < 1) return malformed('has no usable epoch')
  if (typeof body !== 'string' || typeof signer !== 'string' || typeof signature !== 'string') {
    return malformed('lacks body, signer or signature')
  }
  return {
    ok: true,
    value: {
      epoch: epoch as number,
      body,
      signerPem: signer,
      signature: Buffer.from(signature, 'base64url'),
    },
  }
}

/**
 * Reads a record that stands under `key`. Its signer must be an issuing CA of the trust domain, valid
 * now, that one of the roots issued itself: exactly one step, so there is no path to build.
 */
export function openRecord(text: string, key: string, trust: RecordTrust): Opened<SignedRecord> {
  const split = splitRecord(text)
  if (!split.ok) return split
  const { epoch, body, signerPem, signature } = split.value
  const signer = readSigner(signerPem, trust)
  if (!signer.ok) return signer
  return verify('sha256', signedBytes(key, epoch, body), signer.value.publicKey, signature)
    ? { ok: true, value: { epoch, body, signerPem } }
    : bad('does not bear the signature of its signer')
}

/** What a reader knows already, and how it reads a body. */
export interface RecordReading<T> {
  /** The epoch in force; only what is above it counts. */
  readonly above: number
  readonly decode: (body: string) => Parsed<T>
}

/** Judges a record in full: form, signature, body, and whether it is newer than what is in force. */
export function judgeRecord<T>(
  text: string,
  key: string,
  trust: RecordTrust,
  { above, decode }: RecordReading<T>,
): Opened<SignedRecord & { readonly decoded: T }> {
  const record = openRecord(text, key, trust)
  if (!record.ok) return record
  const decoded = decode(record.value.body)
  if (!decoded.ok) return { ok: false, reason: 'malformed', problem: decoded.problem }
  const { epoch } = record.value
  if (epoch <= above) {
    const problem = `its epoch ${epoch} is not above ${above}, which is in force`
    return { ok: false, reason: 'older', problem }
  }
  return { ok: true, value: { ...record.value, decoded: decoded.value } }
}

/** Whether a signer's certificate is good under `trust`; for whoever must sign anew in time. */
export function readSigner(pem: string, trust: RecordTrust): Opened<X509Certificate> {
  let signer: X509Certificate
  try {
    signer = new X509Certificate(pem)
  } catch {
    return bad('has an unreadable signer')
  }
  // One certificate and nothing beside it, so that nobody reads another one than this.
  if (certificateToPem(signer.raw) !== pem) return bad('has a signer in another form than ours')
  if (!signer.ca || signer.subjectAltName !== `URI:spiffe://${trust.trustDomain}`) {
    return bad(`is signed by no issuing CA of "${trust.trustDomain}"`)
  }
  if (trust.nowMs < signer.validFromDate.getTime() || trust.nowMs > signer.validToDate.getTime()) {
    return bad(`is signed by a CA that is valid from ${signer.validFrom} to ${signer.validTo}`)
  }
  return trust.roots.some((root) => issued(root, signer))
    ? { ok: true, value: signer }
    : bad('is signed by a CA that no trusted root issued')
}

function issued(root: X509Certificate, signer: X509Certificate): boolean {
  return root.ca && signer.checkIssued(root) && signer.verify(root.publicKey)
}

/** The key is part of it, so that no record counts under another one. */
function signedBytes(key: string, epoch: number, body: string): Buffer {
  return Buffer.from(`hostmesh signed record 1\n${key}\n${epoch}\n${body}`)
}

function bad(why: string): Extract<Opened<never>, { readonly ok: false }> {
  return { ok: false, reason: 'signature', problem: `the signed record ${why}` }
}

function malformed(why: string): Extract<Opened<never>, { readonly ok: false }> {
  return { ...bad(why), reason: 'malformed' }
}
