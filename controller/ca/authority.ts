/**
 * Owns the certificate authority: opens or creates it, issues leaves, signs records, replaces its
 * issuing certificates in time, and goes where a rotation of its root goes. Who may have what, and
 * when a rotation may go on, is not its business; each order is the caller's decision.
 */

import { X509Certificate } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import type { Clock, Random } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { HostName, ServiceName, TrustDomain } from '#shared/model/names.ts'
import type { RootName, TrustBundle } from '#shared/model/trust.ts'
import { nameRoots, rootName } from '#shared/pki/root-name.ts'
import type { RecordSigner, RecordTrust } from '#shared/pki/signed-record.ts'
import { readSvid } from '#shared/pki/svid.ts'
import { certificateHash, certificateToPem, joinPem } from '#shared/pki/trust.ts'
import type { Issued } from '#shared/rpc/host-messages.ts'
import { createCa, derOf, describeChange, endOf, makeSlot } from './ca-slots.ts'
import type { CaSlot, CaState } from './ca-state.ts'
import { changeCaState, readCaState, removeUnnamed, slotAfter } from './ca-state.ts'
import type { LeafOrder } from './certificates.ts'
import { certifyIssuing, lifetimes, makeIssuing, makeLeaf } from './certificates.ts'
import { controllerOrder, hostOrder, operatorOrder, serviceOrder } from './leaf-orders.ts'
import type { Phase, SlotId } from './rotation.ts'
import { followed, isSamePhase, issuingSlot, prepared, told, trustedSlots } from './rotation.ts'

/** What an authority leans on. */
export interface AuthorityParts {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  /** Told of every certificate, before it is handed over; it must not fail. */
  readonly onIssued?: (issued: IssuedFacts) => void
}

/** What is remembered of a certificate. */
export interface IssuedFacts {
  /** The SPIFFE id, or what else its subject is. */
  readonly subject: string
  /** The host it was issued to; empty where it was none. */
  readonly host: string
  readonly serial: string
  /** Milliseconds since the epoch. */
  readonly notAfterMs: number
}

/** Settings of an authority. */
export interface AuthoritySettings {
  /** Where its directory stands. */
  readonly stateDirectory: string
  /** Fixed when the CA is created; another one afterwards is refused. */
  readonly trustDomain: TrustDomain
  /** Lifetime of the leaves of hosts, services and controllers. */
  readonly leafTtlMs: number
}

/** When certificates of the CA end, milliseconds since the epoch. */
export interface CaEnds {
  readonly root: number
  readonly issuing: number
  /** While a rotation is under way. */
  readonly nextRoot?: number
  readonly nextIssuing?: number
}

/** How long before its end somebody is asked for a new issuing certificate. */
const askForIssuingMs = 60 * 86_400_000

/** See the header. */
export class Authority {
  readonly trustDomain: TrustDomain
  readonly #parts: AuthorityParts
  readonly #settings: AuthoritySettings
  #state: CaState

  private constructor(parts: AuthorityParts, settings: AuthoritySettings, state: CaState) {
    this.trustDomain = state.trustDomain
    this.#parts = parts
    this.#settings = settings
    this.#state = state
  }

  /** Opens the CA, made first where there is none. Throws MeshError. */
  static async open(parts: AuthorityParts, settings: AuthoritySettings): Promise<Authority> {
    const found = await readCaState(settings.stateDirectory)
    if (found !== null && found.trustDomain !== settings.trustDomain) {
      throw new MeshError(
        `the CA in ${settings.stateDirectory} is for trust domain "${found.trustDomain}", ` +
          `the configuration says "${settings.trustDomain}"`,
        {
          code: 'trust-domain-fixed',
          hint: 'a mesh keeps its trust domain for life: set it back, or use another state directory',
        },
      )
    }
    const authority = new Authority(parts, settings, found ?? (await createCa(parts, settings)))
    if (found?.isOld === true) await authority.#change(found.phase, found.slots, new Map())
    await authority.#tidy()
    return authority
  }

  /** Where a rotation of the root stands. */
  get phase(): Phase {
    return this.#state.phase
  }

  /** Every trusted root, PEM, the oldest first. */
  get roots(): readonly string[] {
    const { phase } = this.#state
    return trustedSlots(phase).map((slot) => certificateToPem(derOf(this.#slot(slot))))
  }

  /** Every trusted root, PEM. */
  get bundlePem(): string {
    return joinPem(this.roots)
  }

  /** The root that leaves are issued under. */
  get issuingRoot(): RootName {
    return rootName(derOf(this.#slot(issuingSlot(this.#state.phase))))
  }

  /** The name of a slot's root. */
  rootNameOf(slot: SlotId): RootName {
    return rootName(derOf(this.#slot(slot)))
  }

  /** A slot's root, PEM. */
  rootPemOf(slot: SlotId): string {
    return certificateToPem(derOf(this.#slot(slot)))
  }

  /** The root that the controller's own certificate chains to, PEM. */
  get anchorPem(): string {
    return this.rootPemOf(this.#state.phase.current)
  }

  /** SHA-256 of that root, which join tokens pin. */
  get rootHash(): Buffer {
    return certificateHash(derOf(this.#current))
  }

  /** What signs records: trusted by every host in every phase. */
  get signer(): RecordSigner {
    const { certificate, key } = this.#current.issuing
    const certificatePem = certificateToPem(Buffer.from(certificate.rawData))
    return { certificatePem, key }
  }

  /** Whose signatures count, at a moment in milliseconds since the epoch. */
  recordTrust(nowMs: number): RecordTrust {
    const roots = this.roots.map((pem) => new X509Certificate(pem))
    return { roots, trustDomain: this.trustDomain, nowMs }
  }

  /** When the roots and issuing certificates end, milliseconds since the epoch. */
  get ends(): CaEnds {
    const { root, issuing } = this.#current
    const { phase } = this.#state
    const next = phase.kind === 'steady' ? null : this.#slot(phase.next)
    return {
      root: endOf(root),
      issuing: endOf(issuing),
      ...(next === null ? {} : { nextRoot: endOf(next.root), nextIssuing: endOf(next.issuing) }),
    }
  }

  /** Makes the next root, to be trusted but not yet used. False while a rotation is under way. */
  async prepare(): Promise<boolean> {
    const { trustDomain, phase, slots } = this.#state
    const nowMs = this.#parts.clock.now()
    const next = slotAfter(slots.keys())
    const after = prepared(phase, next, nowMs)
    if (after === null) return false
    const slot = await makeSlot(this.#parts, trustDomain, nowMs)
    await this.#change(after, new Map([...slots, [next, slot]]))
    return true
  }

  /** What a trust bundle says of a phase of this CA. */
  bundleIn(phase: Phase): Omit<TrustBundle, 'spreadMs'> {
    const roots = trustedSlots(phase).map((slot) => certificateToPem(derOf(this.#slot(slot))))
    const issuing = this.rootNameOf(issuingSlot(phase))
    const rotation = told(phase)
    return rotation === null ? { roots, issuing } : { roots, issuing, rotation }
  }

  /**
   * Goes where a trust bundle says the CA is; `gained` is what has come in to follow it with. Answers
   * the roots it has no issuing certificate under; then nothing has changed.
   */
  async follow(
    bundle: Omit<TrustBundle, 'spreadMs'>,
    gained: CaSlot | null = null,
  ): Promise<readonly RootName[]> {
    const slots = new Map(this.#state.slots)
    if (gained !== null) slots.set(slotAfter(slots.keys()), gained)
    const byRoot = new Map([...slots].map(([id, slot]) => [rootName(derOf(slot)), id] as const))
    const wanted = [...nameRoots(joinPem(bundle.roots)).keys()]
    const [first, ...rest] = wanted.flatMap((name) => byRoot.get(name) ?? [])
    if (first === undefined || rest.length + 1 < wanted.length) {
      return wanted.filter((name) => !byRoot.has(name))
    }
    const phase = followed([first, ...rest], bundle.rotation ?? null)
    if (isSamePhase(phase, this.#state.phase)) return []
    const kept = trustedSlots(phase).flatMap((id) => {
      const slot = slots.get(id)
      return slot === undefined ? [] : [[id, slot] as const]
    })
    await this.#change(phase, new Map(kept))
    return []
  }

  /** Whether the key of a root is here, so that it can certify other controllers. */
  holdsKeyOf(root: RootName): boolean {
    const slot = this.#slotOf(root)
    return slot !== null && slot.root.key !== null
  }

  issueHost(host: HostName, publicKey: KeyObject): Promise<Issued> {
    const { leafTtlMs: ttlMs } = this.#settings
    return this.#issue(hostOrder(this.trustDomain, host, { publicKey, ttlMs }), host)
  }

  /** A service's certificate names the host it is for. */
  issueService(service: ServiceName, host: HostName, publicKey: KeyObject): Promise<Issued> {
    const { leafTtlMs: ttlMs } = this.#settings
    return this.#issue(serviceOrder(this.trustDomain, service, host, { publicKey, ttlMs }), host)
  }

  /** Under the root that every host trusts, whatever the phase, unless another slot is named. */
  issueController(
    name: HostName,
    publicKey: KeyObject,
    slot: SlotId = this.#state.phase.current,
  ): Promise<Issued> {
    const { leafTtlMs: ttlMs } = this.#settings
    const order = controllerOrder(this.trustDomain, name, { publicKey, ttlMs })
    return this.#issue(order, '', this.#slot(slot))
  }

  issueOperator(name: HostName, publicKey: KeyObject, ttlMs: number): Promise<Issued> {
    return this.#issue(operatorOrder(this.trustDomain, name, { publicKey, ttlMs }), '')
  }

  /**
   * For a node of a store that runs for itself. It names nobody of the mesh, so that no member takes
   * it for another, and stands under the root that stays: it lives for longer than any rotation.
   */
  async issueStoreNode(
    node: string,
    order: Pick<LeafOrder, 'dnsName' | 'addresses' | 'publicKey' | 'ttlMs'>,
  ): Promise<Issued> {
    const { issuing } = this.#slot(issuingSlot(this.#state.phase))
    const { random, clock } = this.#parts
    const leaf = await makeLeaf({ random, issuing }, { ...order, id: null }, clock.now())
    if (readSvid(leaf, this.trustDomain).ok) throw new TypeError('a store’s node has an identity')
    const { validToDate, serialNumber } = new X509Certificate(leaf)
    const facts = { notAfterMs: validToDate.getTime(), serial: serialNumber.toLowerCase() }
    this.#parts.onIssued?.({ ...facts, subject: `${order.dnsName} ${node}`, host: '' })
    const chainPem = joinPem([certificateToPem(leaf), issuing.certificate.toString('pem')])
    return { ...facts, chainPem, spiffeId: '' }
  }

  /** Replaces issuing certificates once half their life is over. */
  async refreshIssuing(): Promise<void> {
    const { trustDomain, phase, slots } = this.#state
    const { clock, random, logger } = this.#parts
    const nowMs = clock.now()
    for (const [name, { root, issuing }] of slots) {
      if (root.key === null) this.#askForIssuing(endOf(issuing))
      if (root.key === null || nowMs < endOf(issuing) - lifetimes.issuingMs / 2) continue
      const signer = { certificate: root.certificate, key: root.key }
      const next = await makeIssuing({ random, root: signer }, { trustDomain, nowMs })
      await this.#change(phase, new Map([...this.#state.slots, [name, { root, issuing: next }]]))
      logger.info({ serial: next.certificate.serialNumber }, 'issuing certificate renewed')
    }
  }

  /** Whether this controller can sign the issuing certificate of another one. */
  get hasRootKey(): boolean {
    return this.#current.root.key !== null
  }

  /** An issuing certificate for another controller, with the root behind it; null without the key. */
  async issueIntermediate(name: HostName, publicKey: KeyObject): Promise<string | null> {
    const root = rootName(derOf(this.#current))
    const certificate = await this.certifyIntermediate(name, publicKey, root)
    return certificate === null ? null : joinPem([certificate, this.anchorPem])
  }

  /** An issuing certificate for another controller under a root, PEM; null without the root's key. */
  async certifyIntermediate(
    name: HostName,
    publicKey: KeyObject,
    root: RootName,
  ): Promise<string | null> {
    const slot = this.#slotOf(root)
    if (slot === null || slot.root.key === null) return null
    const { certificate, key } = slot.root
    const { random, clock } = this.#parts
    const issuing = await certifyIssuing(
      { random, root: { certificate, key } },
      { trustDomain: this.trustDomain, nowMs: clock.now(), publicKey },
    )
    const { serialNumber: serial, notAfter } = issuing
    const subject = `issuing certificate of controller ${name}`
    this.#parts.onIssued?.({ subject, host: '', serial, notAfterMs: notAfter.getTime() })
    return certificateToPem(Buffer.from(issuing.rawData))
  }

  /** Told at every renewal of the controller's own certificate, more often the nearer the end is. */
  #askForIssuing(endsMs: number): void {
    const { clock, logger } = this.#parts
    if (endsMs - clock.now() > askForIssuingMs) return
    const ends = new Date(endsMs).toISOString()
    logger.warn(
      { ends },
      'the issuing certificate of this controller ends, and its root’s key is kept elsewhere: have a new one signed (main.ts request-ca)',
    )
  }

  get #current(): CaSlot {
    return this.#slot(this.#state.phase.current)
  }

  #slot(name: SlotId): CaSlot {
    const slot = this.#state.slots.get(name)
    if (slot === undefined) throw new TypeError(`the CA has no slot ${name}`)
    return slot
  }

  #slotOf(root: RootName): CaSlot | null {
    const slots = [...this.#state.slots.values()]
    return slots.find((slot) => rootName(derOf(slot)) === root) ?? null
  }

  /** Nothing is in force before it is on the disk. */
  async #change(
    phase: Phase,
    slots: ReadonlyMap<SlotId, CaSlot>,
    known = this.#state.slots,
  ): Promise<void> {
    const before = this.#state
    const after: CaState = { trustDomain: before.trustDomain, phase, slots }
    await changeCaState(this.#settings.stateDirectory, { slots: known }, after)
    this.#state = after
    await this.#tidy()
    if (before.phase !== phase) {
      this.#parts.logger.info({ before: before.phase, after: phase }, describeChange(before, after))
    }
  }

  /** What is named no more is out of use, removed or not. */
  async #tidy(): Promise<void> {
    try {
      await removeUnnamed(this.#settings.stateDirectory, this.#state)
    } catch (error) {
      this.#parts.logger.error({ err: error }, 'files of a root out of use were not removed')
    }
  }

  async #issue(
    order: LeafOrder,
    host: string,
    slot = this.#slot(issuingSlot(this.#state.phase)),
  ): Promise<Issued> {
    const { issuing } = slot
    const { random, clock } = this.#parts
    const leaf = await makeLeaf({ random, issuing }, order, clock.now())
    // What leaves this room is held to the rules every peer will hold it to.
    const svid = readSvid(leaf, this.trustDomain)
    if (!svid.ok) throw new TypeError(`issued an unusable certificate: ${svid.problem}`)
    if (!new X509Certificate(leaf).publicKey.equals(order.publicKey)) {
      throw new TypeError('issued a certificate for another key')
    }
    const { id, notAfterMs, serial } = svid.value
    this.#parts.onIssued?.({ subject: id, host, serial, notAfterMs })
    return {
      chainPem: joinPem([certificateToPem(leaf), issuing.certificate.toString('pem')]),
      spiffeId: id,
      notAfterMs,
      serial,
    }
  }
}
