/**
 * Owns interception on this host: keeps the kernel's rules and the workers' view of them in step
 * with manifests, the mesh and the workers that are there. Workers hear of a change first, and the
 * rules lead to a port only once every worker of the generation has it open. Longer than most: each
 * state of capture and what leads to it stands here once.
 */

import { isDeepStrictEqual } from 'node:util'
import { KernelSockets } from '#agent/kernel/sockets.ts'
import { localAddresses } from '#shared/http/local-address.ts'
import type { Clock, Timer } from '#shared/lifecycle/clock.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { CaptureExplanation } from '#shared/model/admin-capture.ts'
import type { ServiceName } from '#shared/model/names.ts'
import type { Snapshot } from '#shared/model/snapshot.ts'
import type { CaptureView } from '#agent/workers/messages.ts'
import { callerBook, callerIndex, callerPortRange } from './caller-ports.ts'
import type { Exemptions } from './claims.ts'
import { nothing, type CaptureStatus, type LeftAlone } from './capture-state.ts'
import type { KernelCommands } from './commands.ts'
import { EgressWatch } from './egress-watch.ts'
import { exemptUserNumbers } from './exempt-users.ts'
import { explainCapture } from './explain-capture.ts'
import type { GrantsFile } from './grants-file.ts'
import { hostProblem, kernelFeatures, type KernelFeatures } from './host-fitness.ts'
import { IndexBook } from './index-book.ts'
import { readKernelCounts, type Counted } from './kernel-counts.ts'
import { KernelTable } from './kernel-table.ts'
import { leadTo, type CapturingWorker, type Lead } from './lead.ts'
import type { CaptureLifts } from './lifts.ts'
import type { LocalServices } from './local-services.ts'
import { NameTargets } from './name-targets.ts'
import { mayChangeNetwork } from './network-right.ts'
import { planCapture, type Plan } from './plan.ts'
import { Repairs } from './repairs.ts'
import { TakeDown } from './take-down.ts'
import { virtualAddressBook, virtualRange6Of } from './virtual-addresses.ts'
import { virtualRanges } from './virtual-routes.ts'

/** What interception leans on. */
export interface InterceptionParts {
  readonly clock: Clock
  readonly logger: Logger
  readonly commands: KernelCommands
  readonly locals: LocalServices
  readonly grants: GrantsFile
  /** What operators have taken out of capture. */
  readonly lifts: Pick<CaptureLifts, 'whole' | 'bypasses' | 'load' | 'onChange' | 'stop'>
  /** `WorkerHub` fits. */
  readonly workers: {
    setCapture(view: CaptureView): void
    readonly workers: readonly CapturingWorker[]
  }
  /** @default asks the kernel */
  readonly sockets?: Pick<KernelSockets, 'hasConnection'>
  /** Told when it went from one state to another. */
  readonly onChange: () => void
}

/** Settings of interception. */
export interface InterceptionSettings {
  /** Null: on where the host allows it. */
  readonly wish: 'on' | 'off' | null
  readonly owner: string
  readonly agentUser: number
  readonly hasIpv6: boolean
  readonly firstPort: number
  /** Where explicit listeners listen. */
  readonly explicitAddress: string
  readonly exempt: Exemptions
  /** Users whose connections are left alone, by name or number. */
  readonly exemptUsers: readonly string[]
  /** Callers that are known reach nothing outside but what the registry knows, and this. @default anything */
  readonly confines?: LeftAlone
}

/** A successor of a control process waits this long for workers that served before it. */
const graceMs = 10_000
const retryMs = 5000
/** From one look whether connections still pass through lifted rules to the next. */
const lookMs = 1000
/** What workers are told while nothing may reach them. */
const nobody: Omit<CaptureView, 'sequence'> = { callers: [], services: {}, addresses: [] }

/** See the header. */
export class Interception {
  readonly #parts: InterceptionParts
  readonly #settings: InterceptionSettings
  readonly #names: NameTargets
  readonly #repairs: Repairs
  #table: KernelTable | null = null
  #addresses = new IndexBook(virtualAddressBook)
  #callers = new IndexBook(callerBook)
  readonly #egress: EgressWatch
  readonly #takeDown: TakeDown
  #exemptUsers: readonly number[] = []
  #features: KernelFeatures = { tellsUnits: false, masquerades: false }
  #snapshot: Snapshot | null = null
  #plan: Plan | null = null
  #view: CaptureView | null = null
  #sequence = 0
  #status: CaptureStatus
  #startedAt = 0
  #hasCaptured = false
  /** The generation the rules lead to; null: none, or it is not known. */
  #ledTo: number | null = null
  #dirty = false
  #working: Promise<void> | null = null
  #retry: Timer | null = null
  #stopped = false

  constructor(parts: InterceptionParts, settings: InterceptionSettings) {
    this.#parts = parts
    this.#settings = settings
    this.#repairs = new Repairs({
      ...parts,
      onFailed: (error) => {
        this.#fail(error)
        this.#retry ??= parts.clock.after(retryMs, () => this.refresh())
      },
    })
    this.#names = new NameTargets({ clock: parts.clock, onChange: () => this.refresh() })
    this.#status =
      settings.wish === 'off'
        ? { kind: 'off', reason: 'the config says "capture": "off"' }
        : { kind: 'waiting', reason: 'the agent has only just started' }
    const refused = async () => (await this.counts()).egressRefused
    this.#egress = new EgressWatch({ ...parts, refused })
    this.#takeDown = new TakeDown({ ...parts, onGone: () => this.#show(nobody) }, settings)
    parts.locals.onChange(() => this.refresh())
    parts.lifts.onChange(() => this.refresh())
  }

  get status(): CaptureStatus {
    return this.#status
  }

  /** What is captured, as last planned; null before the first plan. */
  get plan(): Plan | null {
    return this.#plan
  }

  /** Whether captured connections go to a generation, if any are captured. */
  leadsTo(generation: number): boolean {
    switch (this.#status.kind) {
      case 'off':
      case 'lifted':
        return true
      case 'failed':
        return !this.#hasCaptured || this.#ledTo === generation
      case 'waiting':
      case 'on':
        return this.#ledTo === generation
    }
  }

  /**
   * Whether nobody reaches a local service but through the mesh. An operator who lifts the lock takes
   * that upon himself: the service stays what it is.
   */
  isLocked(service: ServiceName): boolean {
    if (this.#status.kind !== 'on' && this.#status.kind !== 'lifted') return false
    const local = this.#parts.locals.services.find((one) => one.service === service)
    return local !== undefined && local.at !== null && local.holdsPort && local.inbound === 'strict'
  }

  /** What the kernel counts of the services here. Never rejects. */
  counts(): Promise<Counted> {
    return readKernelCounts({
      counters: async () => (await this.#table?.counts()) ?? new Map<string, number>(),
      services: () => this.#parts.locals.services,
    })
  }

  /** Whether the callers of this host are confined to what the registry knows. */
  get isConfining(): boolean {
    return this.#settings.confines !== undefined
  }

  /** Looks whether this host allows it, and begins. Never rejects. */
  async start(): Promise<void> {
    const { clock, logger, grants, lifts } = this.#parts
    if (this.#settings.wish === 'off') {
      // Where this process may not, the guard does.
      if (mayChangeNetwork()) await this.#takeDown.start()
      return
    }
    this.#startedAt = clock.elapsed()
    const problem = await hostProblem(this.#parts.commands)
    if (problem !== null) {
      if (this.#settings.wish === 'on') this.#fail(problem)
      else {
        this.#status = { kind: 'off', reason: problem.message }
        logger.info({ reason: problem.message, hint: problem.hint }, 'capture: off')
      }
      return
    }
    this.#features = await kernelFeatures(this.#parts.commands)
    this.#exemptUsers = await exemptUserNumbers(this.#settings.exemptUsers, logger)
    await lifts.load()
    const kept = await grants.load()
    this.#addresses = new IndexBook(virtualAddressBook, kept.virtual)
    this.#callers = new IndexBook(callerBook, kept.callers)
    if (lifts.whole !== null) this.#becomeLifted()
    this.refresh()
  }

  /** Resolves when what was asked for last stands, or cannot. */
  async settled(): Promise<void> {
    await this.#working
  }

  /** What becomes of a connection to `to` by `user`. */
  explain(query: URLSearchParams): Promise<CaptureExplanation> {
    return explainCapture(query, {
      table: this.#table?.standing ?? null,
      plan: this.#plan,
      indexOf: (port) => callerIndex(this.#settings.firstPort, port),
    })
  }

  /** Takes over a view of the mesh. */
  setSnapshot(snapshot: Snapshot): void {
    this.#snapshot = snapshot
    this.refresh()
  }

  /** Plans anew; changes that come together make one. */
  refresh(): void {
    this.#dirty = true
    if (this.#stopped || this.#status.kind === 'off' || this.#snapshot === null) return
    this.#working ??= this.#work().finally(() => (this.#working = null))
  }

  /**
   * Ends. With `leave` nothing is captured any more, and the rules go if no connection passes
   * through them; otherwise they stay for the successor.
   */
  async stop({ leave }: { readonly leave: boolean }): Promise<void> {
    this.#stopped = true
    this.#retry?.stop()
    this.#repairs.stop()
    await this.#takeDown.stop()
    this.#egress.stop()
    this.#names.stop()
    await this.#parts.locals.stop()
    await this.#parts.lifts.stop()
    await this.#working
    await this.#parts.grants.settled()
    if (!leave || this.#table === null) return
    try {
      if (!(await this.#table.stands())) return
      await this.#table.apply(nothing)
      if (!(await this.#isInUse())) await this.#table.remove()
    } catch (error) {
      this.#parts.logger.error({ problem: messageOf(error) }, 'capture rules not lifted')
    }
  }

  async #work(): Promise<void> {
    while (this.#dirty && !this.#stopped) {
      this.#dirty = false
      try {
        await this.#step()
      } catch (error) {
        this.#fail(error)
        this.#retry?.stop()
        this.#retry = this.#parts.clock.after(retryMs, () => this.refresh())
      }
    }
  }

  async #step(): Promise<void> {
    const snapshot = this.#snapshot
    if (snapshot === null) return
    if (this.#parts.lifts.whole !== null) return this.#lift(this.#tableFor(snapshot))
    if (!this.#parts.locals.isReady) return
    const plan = this.#makePlan(snapshot)
    // After a restart the rules stay as they are until everything is known that was known before.
    if (!this.#hasCaptured && this.#names.isLooking) return
    this.#plan = plan
    this.#show(plan.view)
    const led = this.#leadFor(plan)
    if (led === null) return
    const table = this.#tableFor(snapshot)
    await table.apply(led.state)
    const isNews = led.generation !== this.#ledTo
    this.#ledTo = led.generation
    // Rules that nobody takes connections by, and that keep nobody from anything, the guard takes away.
    const { unknownPort, confined } = led.state
    if (unknownPort === null && confined.length === 0) this.#repairs.pause()
    else this.#repairs.watch(table)
    if (this.isConfining) this.#egress.start()
    if (led.generation === null) {
      this.#become({ kind: 'waiting', reason: 'no worker takes captured connections' })
    } else {
      this.#hasCaptured = true
      this.#become({ kind: 'on' })
      if (isNews) {
        const { generation } = led
        this.#parts.logger.info({ generation }, 'captured connections are led to a generation')
        this.#parts.onChange()
      }
    }
  }

  #tableFor(snapshot: Snapshot): KernelTable {
    const { confines } = this.#settings
    return (this.#table ??= new KernelTable(this.#parts, {
      owner: this.#settings.owner,
      agentUser: this.#settings.agentUser,
      virtualRange6: this.#range6(snapshot),
      callerPorts: callerPortRange(this.#settings.firstPort),
      ...this.#features,
      ...(confines === undefined ? {} : { confines }),
    }))
  }

  /** Lets everything pass without the mesh; the rules go with the last connection through them. */
  async #lift(table: KernelTable): Promise<void> {
    if (await table.stands()) {
      await table.apply(nothing)
      if (await this.#isInUse()) {
        this.#retry?.stop()
        this.#retry = this.#parts.clock.after(lookMs, () => this.refresh())
      } else await table.remove()
    }
    // Ports of callers close only once nothing can be on its way to them.
    if (table.standing === null) this.#show(nobody)
    this.#becomeLifted()
  }

  #becomeLifted(): void {
    const { by = '', reason = '' } = this.#parts.lifts.whole ?? {}
    this.#become({ kind: 'lifted', reason: `switched off by ${by}: ${reason}` })
  }

  #makePlan(snapshot: Snapshot): Plan {
    const now = this.#parts.clock.now()
    const { agentUser, confines, exempt, explicitAddress } = this.#settings
    const plan = planCapture({
      locals: this.#parts.locals.services,
      snapshot,
      addressOf: (service) => this.#addresses.indexOf(service, now),
      callerOf: (service) => this.#callers.indexOf(service, now),
      virtualRange6: this.#range6(snapshot),
      resolve: (target) => this.#names.resolve(target),
      isHere: localAddresses(),
      agentUser,
      ...this.#features,
      explicitAddress,
      exempt,
      isConfined: confines !== undefined,
      exemptUsers: this.#exemptUsers,
      bypassed: new Set(this.#parts.lifts.bypasses.map(({ service }) => service)),
    })
    const { grants } = this.#parts
    grants.keep({ virtual: this.#addresses.grants, callers: this.#callers.grants })
    const { logger } = this.#parts
    const known = new Set(this.#plan?.problems)
    for (const problem of plan.problems) {
      if (!known.has(problem)) logger.warn({ problem }, 'not captured')
    }
    if (plan.limit !== '' && plan.limit !== this.#plan?.limit) {
      logger.warn({ limit: plan.limit }, 'captured as far as this kernel can')
    }
    return plan
  }

  /** Tells the workers, if it is news. */
  #show(view: Omit<CaptureView, 'sequence'>): void {
    if (
      this.#view !== null &&
      isDeepStrictEqual({ ...view, sequence: this.#sequence }, this.#view)
    ) {
      return
    }
    // Larger than any sequence of an earlier control process that a worker may still remember.
    this.#sequence = Math.max(this.#sequence + 1, this.#parts.clock.now())
    this.#view = { ...view, sequence: this.#sequence }
    this.#parts.workers.setCapture(this.#view)
  }

  /** What the kernel shall do now, and for whom; null: wait, a worker will be heard of soon. */
  #leadFor(plan: Plan): Lead | null {
    const { firstPort } = this.#settings
    const { workers } = this.#parts.workers
    const lead = leadTo(plan, workers, { firstPort, sequence: this.#sequence })
    if (lead.kind === 'wait') return null
    const isEarly = this.#parts.clock.elapsed() - this.#startedAt < graceMs
    if (lead.generation === null && !this.#hasCaptured && isEarly) {
      this.#retry?.stop()
      this.#retry = this.#parts.clock.after(graceMs, () => this.refresh())
      return null
    }
    return lead
  }

  #range6({ trustDomain }: Snapshot): string | null {
    return this.#settings.hasIpv6 ? virtualRange6Of(trustDomain) : null
  }

  #isInUse(): Promise<boolean> {
    const { sockets = new KernelSockets() } = this.#parts
    const range6 = this.#snapshot === null ? null : this.#range6(this.#snapshot)
    const ports = callerPortRange(this.#settings.firstPort)
    return sockets.hasConnection(ports, virtualRanges(range6))
  }

  #fail(error: unknown): void {
    const reason = messageOf(error)
    const hint = error instanceof MeshError ? (error.hint ?? '') : ''
    this.#become({ kind: 'failed', reason, hint })
  }

  #become(status: CaptureStatus): void {
    if (isDeepStrictEqual(status, this.#status)) return
    const from = this.#status.kind
    this.#status = status
    const { logger, onChange } = this.#parts
    const { kind, ...details } = status
    const line = `capture: ${from} -> ${kind}`
    if (kind === 'failed') logger.error(details, line)
    else logger.info(details, line)
    onChange()
  }
}
