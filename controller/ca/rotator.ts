/**
 * Owns a rotation of the root from its beginning to its end: drives the rules of `rotation.ts` with
 * what hosts report, one step after the other, over restarts of the controller. It decides nothing
 * the rules do not.
 */

import type { Clock, Timer } from '#shared/lifecycle/clock.ts'
import { Lane } from '#shared/lifecycle/lane.ts'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { RootName } from '#shared/model/trust.ts'
import { nameRoots } from '#shared/pki/root-name.ts'
import type { ListedRoot, RotationStatus } from '#shared/rpc/mesh-api.ts'
import type { KeyValue } from '#shared/store/key-value.ts'
import type { Authority } from './authority.ts'
import type { KnownHost } from './host-facts.ts'
import { readHosts, RootUse } from './host-facts.ts'
import type { HostLedger } from './host-ledger.ts'
import type { Laggard, NextStep } from './rotation.ts'
import { leavingSlot, nextStep } from './rotation.ts'
import type { TrustLedger } from './trust-ledger.ts'

/** What a rotator leans on. */
export interface RotatorParts {
  readonly authority: Authority
  readonly ledger: TrustLedger
  readonly hosts: Pick<HostLedger, 'readAll'>
  readonly store: KeyValue
  readonly clock: Clock
  readonly logger: Logger
  /** How many controllers the mesh has. */
  readonly controllers: () => number
  /** The roots, or what is issued under which, have changed. */
  readonly onStep: () => Promise<void>
}

/** Settings of a rotator. */
export interface RotatorSettings {
  readonly leafTtlMs: number
  /** How often hosts are looked at while a rotation is under way. @default 1000 */
  readonly lookMs?: number
}

/** What came of an order. */
export type RotationAnswer =
  'done' | 'under-way' | 'nothing-to-abort' | 'no-root-key' | 'several-controllers'

const bounds = { leastQuietMs: 2000, mostQuietMs: 30_000 } as const

/** See the header. */
export class Rotator {
  readonly #parts: RotatorParts
  readonly #settings: RotatorSettings
  readonly #use: RootUse
  #timer: Timer | null = null
  readonly #lane = new Lane()
  #told = ''
  #stopped = false

  constructor(parts: RotatorParts, settings: RotatorSettings) {
    this.#parts = parts
    this.#settings = settings
    this.#use = new RootUse(parts)
  }

  /** Goes on with what was under way when the controller ended. */
  start(): void {
    this.#wait()
  }

  /** Begins a rotation. Throws MeshError. */
  async begin(by: string): Promise<RotationAnswer> {
    return this.#lane.run(async () => {
      const { authority, controllers } = this.#parts
      if (!authority.hasRootKey) return 'no-root-key'
      // The others would go on issuing under the old root.
      if (controllers() > 1) return 'several-controllers'
      if (!(await authority.prepare())) return 'under-way'
      this.#parts.logger.info({ audit: 'root-rotation-begun', by }, 'a rotation of the root began')
      await this.#stepped()
      return 'done'
    })
  }

  /** Gives a rotation up. Throws MeshError. */
  async abort(by: string): Promise<RotationAnswer> {
    return this.#lane.run(async () => {
      if (!(await this.#parts.authority.abort())) return 'nothing-to-abort'
      const audit = 'root-rotation-aborted'
      this.#parts.logger.info({ audit, by }, 'the rotation of the root is given up')
      await this.#stepped()
      return 'done'
    })
  }

  /** How it stands now. Throws what the store throws. */
  async status(): Promise<RotationStatus> {
    const { authority, ledger, store } = this.#parts
    const hosts = await this.#hosts(store)
    const { phase } = authority
    const { bundle } = ledger.epochs
    const step = this.#next(hosts)
    const live = hosts.filter((host) => host.live)
    return {
      phase: phase.kind === 'reissuing' && phase.direction === 'back' ? 'going back' : phase.kind,
      sinceMs: phase.kind === 'steady' ? 0 : phase.sinceMs,
      bundleEpoch: bundle,
      roots: this.#roots(live),
      waitsFor: step.kind === 'wait' ? step.for : [],
      hostsLive: live.length,
      hostsReady: live.filter(({ report }) => (report?.epochs.bundle ?? 0) >= bundle).length,
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#timer?.stop()
    await this.#lane.idle()
  }

  #wait(): void {
    if (this.#stopped) return
    const { lookMs = 1000 } = this.#settings
    this.#timer = this.#parts.clock.after(lookMs, () => {
      void this.#lane
        .run(() => this.#look())
        .catch((error: unknown) => {
          const problem = messageOf(error)
          this.#parts.logger.warn({ problem }, 'the rotation of the root cannot go on now')
        })
        .then(() => this.#wait())
    })
  }

  /** Takes the next step where hosts allow it. */
  async #look(): Promise<void> {
    const { authority, store } = this.#parts
    if (authority.phase.kind === 'steady') return
    const step = this.#next(await this.#hosts(store))
    switch (step.kind) {
      case 'nothing':
        return
      case 'wait':
        this.#tell(step.for)
        return
      case 'activate':
        await authority.activate()
        break
      case 'retire':
        await authority.retire()
        break
    }
    await this.#stepped()
  }

  async #stepped(): Promise<void> {
    this.#told = ''
    await this.#parts.ledger.refresh()
    await this.#parts.onStep()
  }

  #next(hosts: readonly KnownHost[]): NextStep {
    const { authority, ledger, clock } = this.#parts
    const { leafTtlMs } = this.#settings
    const leaving = leavingSlot(authority.phase)
    const facts = {
      bundleEpoch: ledger.epochs.bundle,
      hosts: this.#use.follow(hosts, leaving === null ? null : authority.rootNameOf(leaving)),
      quietMs: Math.min(bounds.mostQuietMs, Math.max(bounds.leastQuietMs, leafTtlMs / 10)),
      leafTtlMs,
    }
    return nextStep(authority.phase, facts, clock.now())
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
