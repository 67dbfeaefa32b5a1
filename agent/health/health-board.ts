/**
 * Owns the checks of this host: those of every manifest with a port, begun, replaced and ended as
 * manifests come, change and go; and the board on which the states of instances can be read.
 */

import type { Clock, Random } from '#shared/lifecycle/clock.ts'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { HealthCheck } from '#shared/model/health-check.ts'
import type { Manifest } from '#shared/model/manifest.ts'
import type { ServiceName } from '#shared/model/names.ts'
import {
  isUp,
  stateOfPort,
  together,
  type CheckResult,
  type HealthState,
  type HealthStatus,
  type InstanceHealth,
} from './check-rules.ts'
import { Checker } from './checker.ts'
import type { KeptResults, ResultSubject } from './kept-results.ts'
import { probe as networkProbe, type Probe } from './probe.ts'
import { PushedCheck } from './pushed-check.ts'
import type { RunningCheck, RunningCheckSettings } from './running-check.ts'

/** Collaborators of a board. */
export interface HealthBoardParts {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  /** @default checks over the network */
  readonly probe?: Probe
  /** Why a service is not to be asked now; '' where it may be. Never rejects. @default each may be */
  readonly whyNot?: (manifest: Manifest) => Promise<string>
  /** What was brought to push checks, over a restart. @default forgotten */
  readonly kept?: Pick<KeptResults, 'standing' | 'keep' | 'forget'>
}

/** What became of a result that was brought. */
export type Brought =
  | { readonly kind: 'taken'; readonly check: string }
  | { readonly kind: 'refused'; readonly problem: string; readonly hint: string }

/** How often an instance's state changed to which. */
export interface HealthChanges {
  readonly service: ServiceName
  readonly state: HealthState
  readonly count: number
}

/** One service with its checks. */
interface Watched {
  /** As it was applied last. */
  manifest: Manifest
  readonly checks: Map<string, RunningCheck>
  health: InstanceHealth
  /** Since when its state is that, milliseconds since the epoch. */
  sinceMs: number
  readonly changes: Map<HealthState, number>
}

/** See the header. */
export class HealthBoard {
  readonly #parts: HealthBoardParts
  readonly #watched = new Map<ServiceName, Watched>()
  readonly #listeners = new Set<(service: ServiceName) => void>()
  /** Checks that were replaced and have not ended yet. */
  readonly #ending = new Set<Promise<void>>()

  constructor(parts: HealthBoardParts) {
    this.#parts = parts
  }

  /** What is known of a service's local instance; null where it is not checked. */
  statusOf(service: ServiceName): InstanceHealth | null {
    return this.#watched.get(service)?.health ?? null
  }

  /** Since when an instance fares as it does, milliseconds since the epoch; 0: it is not checked. */
  sinceMs(service: ServiceName): number {
    return this.#watched.get(service)?.sinceMs ?? 0
  }

  /** How often the state of each instance has changed since it is checked. */
  get changes(): readonly HealthChanges[] {
    return [...this.#watched].flatMap(([service, { changes }]) =>
      [...changes].map(([state, count]) => ({ service, state, count })),
    )
  }

  /** Calls back after the state of an instance has changed; answers how to stop that. */
  onChange(listener: (service: ServiceName) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  /** Checks what these manifests ask for from now on, and nothing else. */
  apply(manifests: readonly Manifest[]): void {
    const wanted = new Map(
      manifests
        .filter(({ port }) => port !== undefined)
        .map((manifest) => [manifest.service, manifest]),
    )
    for (const [service, { checks }] of this.#watched) {
      if (wanted.has(service)) continue
      for (const check of checks.values()) this.#remove(check)
      this.#watched.delete(service)
    }
    for (const manifest of wanted.values()) this.#applyOne(manifest)
  }

  /** Takes a result that was brought for one push check of a service, by name if there are several. */
  bring(service: ServiceName, name: string | null, result: CheckResult): Brought {
    const watched = this.#watched.get(service)
    const checks = [...(watched?.checks.values() ?? [])]
    if (watched === undefined || checks.length === 0) {
      const hint = 'see meshctl manifest status'
      return { kind: 'refused', problem: `no service ${service} is served on this host`, hint }
    }
    const pushed = checks.filter((one) => one instanceof PushedCheck)
    const names = pushed.map(({ settings }) => settings.check.name)
    const found = name === null && pushed.length === 1 ? 0 : names.indexOf(name ?? '')
    const check = pushed[found]
    if (check !== undefined) {
      check.take(result)
      this.#parts.kept?.keep(subjectOf(watched.manifest, check.settings), result)
      return { kind: 'taken', check: check.settings.check.name }
    }
    if (pushed.length === 0) {
      const problem = `no check of ${service} waits for results`
      return { kind: 'refused', problem, hint: 'add {"kind": "push"} to "health" in its manifest' }
    }
    const problem =
      name === null ? `${service} has several` : `${service} has no push check ${name}`
    return { kind: 'refused', problem, hint: `name one with --check: ${names.join(', ')}` }
  }

  /** Ends every check; what was brought stays kept. */
  async stop(): Promise<void> {
    for (const { checks } of this.#watched.values()) {
      for (const check of checks.values()) this.#end(check)
    }
    this.#watched.clear()
    await Promise.all(this.#ending)
  }

  #applyOne(manifest: Manifest): void {
    const { service, address, port, health } = manifest
    const known = this.#watched.get(service)
    // A host may have a thousand, of which one has changed.
    if (port === undefined || known?.manifest === manifest) return
    const watched: Watched = known ?? {
      manifest,
      checks: new Map<string, RunningCheck>(),
      health: together([]),
      sinceMs: this.#parts.clock.now(),
      changes: new Map<HealthState, number>(),
    }
    watched.manifest = manifest
    this.#watched.set(service, watched)
    const names = new Set(health.map(({ name }) => name))
    for (const [name, running] of watched.checks) {
      if (names.has(name)) continue
      this.#remove(running)
      watched.checks.delete(name)
    }
    for (const check of health) {
      const settings: RunningCheckSettings = { service, address, port, check }
      const known = watched.checks.get(check.name)
      if (known !== undefined && isSame(known.settings, settings)) continue
      const isCarried = known !== undefined && asksTheSame(known.settings, settings)
      if (isCarried) this.#end(known)
      else if (known !== undefined) this.#remove(known)
      const status = isCarried ? known.status : undefined
      watched.checks.set(check.name, this.#begin(manifest, settings, status))
    }
    // Who applies manifests looks at the board afterwards anyway.
    this.#judge(watched)
  }

  #begin(
    manifest: Manifest,
    settings: RunningCheckSettings,
    status: HealthStatus | undefined,
  ): RunningCheck {
    const { clock, random, logger, kept } = this.#parts
    const { check, service } = settings
    const onTransition = (): void => this.#onTransition(service)
    const probe = this.#probeOf(service)
    const parts = { clock, random, logger, probe, onTransition }
    const standing =
      check.kind === 'push' && status === undefined
        ? (kept?.standing(subjectOf(manifest, settings), check.ttlMs) ?? null)
        : null
    if (standing !== null) {
      const fields = { service, check: check.name, ...standing }
      logger.info(fields, 'health: a result from before the start still counts')
    }
    const running =
      check.kind === 'push'
        ? new PushedCheck(parts, settings, status, standing)
        : new Checker(parts, settings, status)
    running.start()
    return running
  }

  /** Probes a service unless it is not to be asked, which is a failure. */
  #probeOf(service: ServiceName): Probe {
    const { probe = networkProbe, whyNot } = this.#parts
    if (whyNot === undefined) return probe
    return async (target, signal) => {
      const manifest = this.#watched.get(service)?.manifest
      const detail = manifest === undefined ? '' : await whyNot(manifest)
      if (signal.aborted) return { outcome: 'fail', detail: messageOf(signal.reason) }
      return detail === '' ? probe(target, signal) : { outcome: 'fail', detail }
    }
  }

  #onTransition(service: ServiceName): void {
    const watched = this.#watched.get(service)
    if (watched === undefined) return
    const before = watched.health
    this.#judge(watched)
    const { state } = watched.health
    if (state === before.state && portsDown(watched.health) === portsDown(before)) return
    if (state !== before.state) {
      watched.changes.set(state, (watched.changes.get(state) ?? 0) + 1)
    }
    for (const listener of this.#listeners) listener(service)
  }

  #judge(watched: Watched): void {
    const before = watched.health.state
    watched.health = healthOf(watched)
    if (watched.health.state !== before) watched.sinceMs = this.#parts.clock.now()
  }

  /** Ends a check for good: what was brought to it counts for no other one. */
  #remove(check: RunningCheck): void {
    this.#end(check)
    this.#parts.kept?.forget(check.settings.service, check.settings.check.name)
  }

  #end(check: RunningCheck): void {
    const ending = check.stop().finally(() => this.#ending.delete(ending))
    this.#ending.add(ending)
  }
}

/** What a result brought to a check is about. */
function subjectOf(
  { service, owner }: Pick<Manifest, 'service' | 'owner'>,
  { address, port, check }: RunningCheckSettings,
): ResultSubject {
  return { service, check: check.name, owner: owner ?? null, address, port }
}

function healthOf({ checks }: Watched): InstanceHealth {
  return together(
    [...checks].map(([name, { status, settings }]) => {
      const { state, detail } = status
      const { portName } = settings.check
      return { name, state, detail, ...(portName === undefined ? {} : { portName }) }
    }),
  )
}

/** The named ports that may not be called. */
function portsDown(health: InstanceHealth): string {
  return health.checks
    .flatMap(({ portName }) =>
      portName === undefined || isUp(stateOfPort(health, portName)) ? [] : [portName],
    )
    .join()
}

function isSame(a: RunningCheckSettings, b: RunningCheckSettings): boolean {
  return isSamePlace(a, b) && JSON.stringify(a.check) === JSON.stringify(b.check)
}

/** Whether what one has found is what the other would find: only its pace, or its patience, is another. */
function asksTheSame(a: RunningCheckSettings, b: RunningCheckSettings): boolean {
  return isSamePlace(a, b) && questionOf(a.check) === questionOf(b.check)
}

function isSamePlace(a: RunningCheckSettings, b: RunningCheckSettings): boolean {
  return a.address === b.address && a.port === b.port
}

function questionOf(check: HealthCheck): string {
  switch (check.kind) {
    case 'tcp':
      return `tcp ${check.port ?? ''}`
    case 'http':
      return `http ${check.port ?? ''} ${check.path}`
    case 'grpc':
      return `grpc ${check.port ?? ''} ${check.grpcService}`
    case 'systemd':
      return `systemd ${check.unit}`
    case 'push':
      return 'push'
  }
}
