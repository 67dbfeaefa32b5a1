/**
 * Owns the credentials a worker holds: answers the TLS context of an identity, and reads peers.
 * All contexts share the one trust bundle. It never asks for, renews or writes a credential, and an
 * expired or unusable one is answered as none, with the reason.
 */

import type { SecureContext } from 'node:tls'
import { createSecureContext } from 'node:tls'
import type { CredentialMessage } from '#agent/workers/messages.ts'
import type { Clock } from '#shared/lifecycle/clock.ts'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Parsed, TrustDomain } from '#shared/model/names.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import type { Svid } from '#shared/pki/svid.ts'
import { readSvid } from '#shared/pki/svid.ts'

/** What a peer's certificate proves. */
export type PeerIdentity = Svid

/** The TLS context of an identity, or why there is none. */
export type ContextAnswer =
  | {
      readonly kind: 'ready'
      readonly context: SecureContext
      readonly serial: string
      /** Milliseconds since the epoch. */
      readonly notAfterMs: number
    }
  | { readonly kind: 'none'; readonly reason: 'no-credential'; readonly detail: string }

/** What tunnels need to know of identity. */
export interface CredentialSource {
  /**
   * The context of an identity this host holds: TLS 1.3 only, with key, chain and the trust bundle
   * as CA. Whoever listens with it must set `requestCert` and `rejectUnauthorized`.
   */
  contextFor(id: SpiffeId): ContextAnswer
  /** Reads a chain-verified peer's leaf (DER) strictly. */
  readPeer(der: Buffer): Parsed<PeerIdentity>
  /** Tells which identities have a new context, or none any more. Answers how to stop listening. */
  onRotated(listener: (id: SpiffeId) => void): () => void
}

interface Entry {
  readonly credential: CredentialMessage
  /** Made when first asked for. */
  answer: ContextAnswer | null
}

/** Holds the current set; replaced whole. */
export class Credentials implements CredentialSource {
  readonly #clock: Clock
  readonly #listeners = new Set<(id: SpiffeId) => void>()
  #entries: ReadonlyMap<SpiffeId, Entry> = new Map()
  #trust: { readonly bundlePem: string; readonly trustDomain: TrustDomain } | null = null

  constructor(parts: { readonly clock: Clock }) {
    this.#clock = parts.clock
  }

  /** Takes a new trust bundle; a changed one replaces every context. */
  setTrust(bundlePem: string, trustDomain: TrustDomain): void {
    if (this.#trust?.bundlePem === bundlePem && this.#trust.trustDomain === trustDomain) return
    this.#trust = { bundlePem, trustDomain }
    this.#entries = new Map(
      [...this.#entries].map(([id, { credential }]) => [id, { credential, answer: null }]),
    )
    this.#tell(this.#entries.keys())
  }

  /** Takes the whole set; what is not in it is gone. Unchanged credentials keep their contexts. */
  setCredentials(list: readonly CredentialMessage[]): void {
    const before = this.#entries
    const changed = new Set<SpiffeId>(before.keys())
    const entries = new Map<SpiffeId, Entry>()
    for (const credential of list) {
      const old = before.get(credential.id)
      const same = old !== undefined && sameCredential(old.credential, credential)
      entries.set(credential.id, same ? old : { credential, answer: null })
      if (same) changed.delete(credential.id)
      else changed.add(credential.id)
    }
    this.#entries = entries
    this.#tell(changed)
  }

  contextFor(id: SpiffeId): ContextAnswer {
    const entry = this.#entries.get(id)
    if (entry === undefined) return none(`this host holds no certificate for ${id}`)
    if (this.#trust === null) return none('no trust bundle has arrived yet')
    const { notAfterMs, serial } = entry.credential
    if (notAfterMs <= this.#clock.now()) {
      const ended = new Date(notAfterMs).toISOString()
      return none(`the certificate ${serial} of ${id} ended at ${ended}; is the controller away?`)
    }
    entry.answer ??= makeContext(entry.credential, this.#trust.bundlePem)
    return entry.answer
  }

  readPeer(der: Buffer): Parsed<PeerIdentity> {
    return this.#trust === null
      ? { ok: false, problem: 'no trust bundle has arrived yet' }
      : readSvid(der, this.#trust.trustDomain)
  }

  onRotated(listener: (id: SpiffeId) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  #tell(ids: Iterable<SpiffeId>): void {
    for (const id of ids) for (const listener of this.#listeners) listener(id)
  }
}

function sameCredential(a: CredentialMessage, b: CredentialMessage): boolean {
  return a.chainPem === b.chainPem && a.keyPem === b.keyPem
}

function none(detail: string): ContextAnswer {
  return { kind: 'none', reason: 'no-credential', detail }
}

function makeContext(credential: CredentialMessage, bundlePem: string): ContextAnswer {
  try {
    const context = createSecureContext({
      key: credential.keyPem,
      cert: credential.chainPem,
      ca: bundlePem,
      minVersion: 'TLSv1.3',
      maxVersion: 'TLSv1.3',
    })
    const { serial, notAfterMs } = credential
    return { kind: 'ready', context, serial, notAfterMs }
  } catch (error) {
    return none(`the certificate of ${credential.id} cannot be used: ${messageOf(error)}`)
  }
}
