/**
 * Owns the credentials a worker holds: answers the TLS context of an identity, and reads peers.
 * All contexts share the one trust bundle. It never asks for, renews or writes a credential, and an
 * expired or unusable one is answered as none, with the reason.
 */

import type { SecureContext } from 'node:tls'
import { createSecureContext } from 'node:tls'
import { X509Certificate } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import type { CredentialMessage } from '#agent/workers/messages.ts'
import type { Clock } from '#shared/lifecycle/clock.ts'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Parsed, TrustDomain } from '#shared/model/names.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import type { Bans } from '#shared/model/trust.ts'
import { noBans } from '#shared/model/trust.ts'
import { BanList } from '#shared/pki/ban-list.ts'
import type { NamedRoots } from '#shared/pki/root-name.ts'
import { nameRoots, rootOf } from '#shared/pki/root-name.ts'
import type { Svid } from '#shared/pki/svid.ts'
import { readSvid } from '#shared/pki/svid.ts'

/** What a peer's certificate proves. */
export interface PeerIdentity extends Svid {
  /** Names the root it was proven under; `unknown` where that cannot be told. */
  readonly root: string
}

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
  /** Reads a chain-verified peer's leaf (DER) strictly; `issuer` is its issuer's certificate. */
  readPeer(der: Buffer, issuer?: Buffer): Parsed<PeerIdentity>
  /** Why a peer that was proven is welcome no more, or an empty string. */
  refusal(peer: PeerIdentity): string
  /** Tells when what peers are held to has changed. Answers how to stop listening. */
  onTrust(listener: () => void): () => void
  /** Tells which identities have a new context, or none any more. Answers how to stop listening. */
  onRotated(listener: (id: SpiffeId) => void): () => void
}

interface Entry {
  readonly credential: CredentialMessage
  /** Made when first asked for. */
  answer: ContextAnswer | null
}

interface Trust {
  readonly bundlePem: string
  readonly trustDomain: TrustDomain
  readonly bans: BanList
  readonly roots: NamedRoots
  /** Roots of issuers met, by the issuer's certificate: there are as many as controllers. */
  readonly met: Map<string, string>
}

const unknownRoot = 'unknown'
const mostIssuers = 100

/** Holds the current set; replaced whole. */
export class Credentials implements CredentialSource {
  readonly #clock: Clock
  readonly #listeners = new Set<(id: SpiffeId) => void>()
  readonly #trustListeners = new Set<() => void>()
  #entries: ReadonlyMap<SpiffeId, Entry> = new Map()
  #trust: Trust | null = null

  constructor(parts: { readonly clock: Clock }) {
    this.#clock = parts.clock
  }

  /**
   * Takes what is trusted; a changed bundle replaces every context for handshakes to come. Tunnels that
   * stand were proven when they began and go on, but for those of whoever is banned now.
   */
  setTrust(bundlePem: string, trustDomain: TrustDomain, bans: Bans = noBans): void {
    const before = this.#trust
    const sameBundle = before?.bundlePem === bundlePem && before.trustDomain === trustDomain
    if (sameBundle && isDeepStrictEqual(before.bans.bans, bans)) return
    const roots = sameBundle ? before.roots : nameRoots(bundlePem)
    const met = new Map<string, string>()
    this.#trust = { bundlePem, trustDomain, bans: new BanList(bans, trustDomain), roots, met }
    if (!sameBundle) {
      this.#entries = new Map(
        [...this.#entries].map(([id, { credential }]) => [id, { credential, answer: null }]),
      )
    }
    for (const listener of this.#trustListeners) listener()
    if (before === null) this.#tell(this.#entries.keys())
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

  readPeer(der: Buffer, issuer?: Buffer): Parsed<PeerIdentity> {
    const trust = this.#trust
    if (trust === null) return { ok: false, problem: 'no trust bundle has arrived yet' }
    const svid = readSvid(der, trust.trustDomain)
    if (!svid.ok) return svid
    const banned = trust.bans.refusal(svid.value)
    if (banned !== '') return { ok: false, problem: banned }
    return { ok: true, value: { ...svid.value, root: rootBehind(issuer, trust) } }
  }

  refusal(peer: PeerIdentity): string {
    return this.#trust?.bans.refusal(peer) ?? ''
  }

  onTrust(listener: () => void): () => void {
    this.#trustListeners.add(listener)
    return () => this.#trustListeners.delete(listener)
  }

  onRotated(listener: (id: SpiffeId) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  #tell(ids: Iterable<SpiffeId>): void {
    for (const id of ids) for (const listener of this.#listeners) listener(id)
  }
}

function rootBehind(issuer: Buffer | undefined, { roots, met }: Trust): string {
  if (issuer === undefined) return unknownRoot
  const key = issuer.toString('latin1')
  let root = met.get(key)
  if (root === undefined) {
    root = rootOf(new X509Certificate(issuer), roots) ?? unknownRoot
    if (met.size < mostIssuers) met.set(key, root)
  }
  return root
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
