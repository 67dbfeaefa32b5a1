/**
 * Owns a rotation of the root from its beginning to its end: drives the rules of `rotation.ts` with
 * what hosts and controllers report, one step after the other. The trust bundle in the store is the
 * truth, and every controller follows it; who takes a step changes the bundle, compared and set, so
 * that of several at once one does. It decides nothing the rules do not.
 */

import type { Clock, Timer } from '#shared/lifecycle/clock.ts'
import { Lane } from '#shared/lifecycle/lane.ts'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { RootName } from '#shared/model/trust.ts'
import { nameRoots } from '#shared/pki/root-name.ts'
import { joinPem } from '#shared/pki/trust.ts'
import type { ListedRoot, RotationStatus } from '#shared/rpc/operator-messages.ts'
import type { KeyValue } from '#shared/store/key-value.ts'
import type { Membership } from '#controller/leader/membership.ts'
import type { Authority } from './authority.ts'
import type { KnownHost } from './host-facts.ts'
import { readHosts, RootUse } from './host-facts.ts'
import type { HostLedger } from './host-ledger.ts'
import type { Intermediates } from './intermediates.ts'
import type { Laggard, NextStep, Phase, RotationFacts, StoreNodeFacts } from './rotation.ts'
import { aborted, activated, leavingSlot, nextStep, retired } from './rotation.ts'
import type { TrustLedger } from './trust-ledger.ts'

/** What a rotator leans on. */
export interface RotatorParts {
  readonly authority: Authority
  readonly ledger: TrustLedger
  readonly hosts: Pick<HostLedger, 'readAll'>
  readonly store: KeyValue
  readonly clock: Clock
  readonly logger: Logger
  readonly membership: Pick<Membership, 'isLeader' | 'controllers'>
  readonly intermediates: Intermediates
  /** How the nodes of an etcd follow; nobody where the store is embedded. */
  readonly storeNodes: { look(): Promise<readonly StoreNodeFacts[]> }
  /** The roots, or what is issued under which, have changed. */
  readonly onStep: () => Promise<void>
}

/** Settings of a rotator. */
export interface RotatorSettings {
  /** This controller's name. */
  readonly controller: string
  readonly leafTtlMs: number
  /** How often hosts are looked at while a rotation is under way. @default 1000 */
  readonly lookMs?: number
}

/** What came of an order. */
export type RotationAnswer = 'done' | 'under-way' | 'nothing-to-abort' | 'no-root-key'

const behind: Laggard = {
  host: 'this controller',
  why: 'it has no issuing certificate under the next root yet; the controller that made that root gives it one',
}
const bounds = { leastQuietMs: 2000, mostQuietMs: 30_000 } as const

/** See the header. */
export class Rotator {
  readonly #parts: RotatorParts
  readonly #settings: RotatorSettings
  readonly #use: RootUse
  readonly #lane = new Lane()
  #timer: Timer | null = null
  /** Epoch of the bundle that the CA's phase was last compared with; a step from it changes no other. */
  #seen = 0
  #told = ''
  #problem = ''
  #stopped = false

  constructor(parts: RotatorParts, settings: RotatorSettings) {
    this.#parts = parts
    this.#settings = settings
    this.#use = new RootUse(parts)
  }

  /** Goes on with what was under way when the controller ended. */
  start(): void {
    this.#wait(0)
  }

  /** Begins a rotation. Throws MeshError. */
  async begin(by: string): Promise<RotationAnswer> {
    return this.#lane.run(async () => {
      const { authority, ledger, logger } = this.#parts
      await ledger.catchUp()
      await this.#follow()
      if (!authority.hasRootKey) return 'no-root-key'
      if (!(await authority.prepare())) return 'under-way'
      let isBegun = false
      try {
        isBegun = await ledger.changeBundle(this.#seen, authority.bundleIn(authority.phase))
      } finally {
        // What nobody was told of is given up.
        await authority.follow(ledger.bundle)
      }
      if (!isBegun) return 'under-way'
      logger.info({ audit: 'root-rotation-begun', by }, 'a rotation of the root began')
      await this.#stepped()
      return 'done'
    })
  }

  /** Gives a rotation up. Throws MeshError. */
  async abort(by: string): Promise<RotationAnswer> {
    return this.#lane.run(async () => {
      const { authority, ledger, clock, logger } = this.#parts
      await ledger.catchUp()
      await this.#follow()
      const { phase } = authority
      // Also where this controller has no certificate under the next root yet, and never will.
      const after = aborted(phase, clock.now()) ?? (this.#isBehind ? phase : null)
      if (!(await this.#step(after))) return 'nothing-to-abort'
      const audit = 'root-rotation-aborted'
      logger.info({ audit, by }, 'the rotation of the root is given up')
      return 'done'
    })
  }

  /** How it stands now. Throws what the store throws. */
  async status(): Promise<RotationStatus> {
    const { authority, ledger, store } = this.#parts
    const hosts = await this.#hosts(store)
    const { phase } = authority
    const { bundle } = ledger.epochs
    const step = await this.#next(hosts)
    const live = hosts.filter((host) => host.live)
    const waitsFor = step.kind === 'wait' ? step.for : []
    const isBack = phase.kind === 'reissuing' && phase.direction === 'back'
    return {
      phase: this.#isBehind ? 'distributing' : isBack ? 'going back' : phase.kind,
      sinceMs: phase.kind === 'steady' ? (ledger.bundle.rotation?.sinceMs ?? 0) : phase.sinceMs,
      bundleEpoch: bundle,
      roots: this.#roots(live),
      waitsFor: this.#isBehind ? [behind, ...waitsFor] : waitsFor,
      hostsLive: live.length,
      hostsReady: live.filter(({ report }) => (report?.epochs.bundle ?? 0) >= bundle).length,
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#timer?.stop()
    await this.#lane.idle()
  }

  #wait(ms = this.#settings.lookMs ?? 1000): void {
    if (this.#stopped) return
    this.#timer = this.#parts.clock.after(ms, () => {
      void this.#lane
        .run(() => this.#look())
        .catch((error: unknown) => {
          const problem = messageOf(error)
          if (problem === this.#problem) return
          this.#problem = problem
          this.#parts.logger.warn({ problem }, 'the rotation of the root cannot go on now')
        })
        .then(() => this.#wait())
    })
  }

  /** Follows the bundle, helps others to, and takes the next step where everybody allows it. */
  async #look(): Promise<void> {
    const { authority, store, clock, membership, intermediates } = this.#parts
    await this.#follow()
    const { phase } = authority
    if (phase.kind === 'steady') return
    const next = authority.rootNameOf(phase.next)
    const isHolder = authority.holdsKeyOf(next)
    const names = new Set(membership.controllers.map(({ name }) => name))
    if (isHolder) await intermediates.answer(next, names)
    if (!isHolder && !membership.isLeader) return
    const step = await this.#next(await this.#hosts(store))
    switch (step.kind) {
      case 'nothing':
        return
      case 'wait':
        this.#tell(step.for)
        return
      case 'activate':
        await this.#step(activated(authority.phase, clock.now()))
        return
      case 'retire':
        if (await this.#step(retired(authority.phase))) await intermediates.clear()
    }
  }

  /** Whether a rotation has begun that this controller has no certificate for yet. */
  get #isBehind(): boolean {
    const { authority, ledger } = this.#parts
    const { roots, issuing } = ledger.bundle
    const isWaiting = authority.phase.kind === 'steady' && issuing === authority.issuingRoot
    return isWaiting && roots.length > 1
  }

  /** Changes the bundle, and so everybody's phase; false where somebody else was first. */
  async #step(after: Phase | null): Promise<boolean> {
    if (after === null) return false
    const { authority, ledger } = this.#parts
    // The ledger may have taken over another bundle since: what was decided before it is no news then.
    const isDone = await ledger.changeBundle(this.#seen, authority.bundleIn(after))
    await this.#follow()
    return isDone
  }

  /** Brings the CA to where the bundle says it is, as far as its certificates allow. */
  async #follow(): Promise<void> {
    const { authority, ledger, intermediates } = this.#parts
    const { bundle } = ledger
    const { bundle: epoch } = ledger.epochs
    this.#seen = epoch
    const before = authority.phase
    let missing = await authority.follow(bundle)
    const known = nameRoots(joinPem(bundle.roots))
    // Whoever knows none of the roots was away too long for anybody to answer.
    const [name] = missing
    const root = name === undefined ? undefined : known.get(name)
    if (root !== undefined && missing.length < known.size) {
      const gained = await intermediates.ask(root)
      if (gained !== null) missing = await authority.follow(bundle, gained)
    }
    if (authority.phase !== before) await this.#stepped()
    if (missing.length === 0 && bundle.roots.length > 1) await intermediates.act(epoch)
  }

  async #stepped(): Promise<void> {
    this.#told = ''
    this.#problem = ''
    await this.#parts.ledger.refresh()
    await this.#parts.onStep()
  }

  async #next(hosts: readonly KnownHost[]): Promise<NextStep> {
    const { authority, ledger, clock, storeNodes: nodes } = this.#parts
    const { leafTtlMs } = this.#settings
    const [controllers, storeNodes] = await Promise.all([this.#controllers(), nodes.look()])
    const leaving = leavingSlot(authority.phase)
    const facts = {
      bundleEpoch: ledger.epochs.bundle,
      hosts: this.#use.follow(hosts, leaving === null ? null : authority.rootNameOf(leaving)),
      controllers,
      storeNodes,
      quietMs: Math.min(bounds.mostQuietMs, Math.max(bounds.leastQuietMs, leafTtlMs / 10)),
      leafTtlMs,
    }
    return nextStep(authority.phase, facts, clock.now())
  }

  /** The others that are there now; one that is away follows when it is back. */
  async #controllers(): Promise<RotationFacts['controllers']> {
    const { authority, membership, intermediates } = this.#parts
    const others = membership.controllers.filter(({ name }) => name !== this.#settings.controller)
    if (others.length === 0 || authority.phase.kind === 'steady') return []
    const acting = await intermediates.acting()
    return others.map(({ name }) => ({ name, bundleEpoch: acting.get(name) ?? 0 }))
  }

  /** Banned hosts are nobody to wait for. */
  async #hosts(store: KeyValue): Promise<readonly KnownHost[]> {
    const { hosts: banned } = this.#parts.ledger.bans
    const hosts = await readHosts(store, this.#parts.hosts)
    return hosts.filter(({ record }) => !Object.hasOwn(banned, record.host))
  }

  #tell(laggards: readonly Laggard[]): void {
    const told = laggards.map(({ host }) => host).join(' ')
    if (told === this.#told) return
    this.#told = told
    const few = laggards.slice(0, 10)
    const facts = { phase: this.#parts.authority.phase.kind, count: laggards.length, hosts: few }
    this.#parts.logger.info(facts, 'the rotation of the root waits for hosts')
  }

  #roots(live: readonly KnownHost[]): readonly ListedRoot[] {
    const { authority } = this.#parts
    const leaving = leavingSlot(authority.phase)
    const goes = leaving === null ? null : authority.rootNameOf(leaving)
    return [...nameRoots(authority.bundlePem)].map(([name, root]) => ({
      name,
      endsMs: root.validToDate.getTime(),
      state: stateOf(name, authority.issuingRoot, goes),
      held: live.reduce((sum, { report }) => sum + (report?.held[name] ?? 0), 0),
    }))
  }
}

function stateOf(name: RootName, issuing: RootName, leaving: RootName | null): string {
  if (name === issuing) return 'issuing'
  return name === leaving ? 'leaving' : 'next'
}
