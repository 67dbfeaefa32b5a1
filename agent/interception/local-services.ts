/**
 * Owns who the services of this host are: the user or the unit a manifest names, or else the owner of
 * the listening socket, looked for until it listens. Whoever was found first stays it until the manifest
 * changes, so that a thief of the port does not become the service.
 */

import {
  KernelSockets,
  listenerOf,
  type ListeningSocket,
  type Place,
} from '#agent/kernel/sockets.ts'
import type { Clock, Timer } from '#shared/lifecycle/clock.ts'
import type { Logger } from '#shared/logging/logger.ts'
import { servedPorts, type Manifest } from '#shared/model/manifest.ts'
import type { ServiceName } from '#shared/model/names.ts'
import type { KnownUnit, LocalService } from './plan.ts'
import { PortOwners, type SeenListeners } from './port-owners.ts'
import { directoryOf, unitGroups, unitUser, type UnitGroup } from './units.ts'
import { UnitWatch } from './unit-watch.ts'
import { userNumber } from './users.ts'

/** What it leans on. */
export interface LocalServicesParts {
  readonly clock: Clock
  readonly logger: Logger
  /** @default asks the system */
  readonly userNumber?: (name: string) => Promise<number | null>
  /** @default asks the kernel */
  readonly sockets?: Pick<KernelSockets, 'listening'>
  /** @default asks systemd */
  readonly unitUser?: typeof unitUser
}

/** Settings. */
export interface LocalServicesSettings {
  readonly agentUser: number
  /** From one look for owners to the next. @default 1000 */
  readonly lookMs?: number
}

const kernelSockets = new KernelSockets()
/** Looks are this much rarer while all are known: only a thief of a port could change that. */
const calm = 5

/** A local service with the reason why nobody is known as it, or ''. */
export type KnownService = LocalService & { readonly problem: string }

interface Finding {
  /** What the finding was made for; another manifest starts anew. */
  readonly made: string
  readonly user: number | null
  /** The number of the user it names, be that an identity or not. @default it names none */
  readonly named?: number | null
  readonly unit?: KnownUnit
  readonly problem: string
  /** Whether looking again may find something else. */
  readonly isFinal: boolean
}

/** What listens, by port. */
type Listening = ReadonlyMap<number, readonly ListeningSocket[]>

/** All that a service is known by. */
interface Facts {
  readonly manifest: Manifest
  readonly finding: Finding
  /** The service that its user is known as already. */
  readonly holder: string | undefined
  readonly holdsPort: boolean
  readonly isGuarded: boolean
}

/** See the header. */
export class LocalServices {
  /** Whether ports of local users' services are theirs. */
  readonly owners = new PortOwners()
  readonly #parts: LocalServicesParts
  readonly #settings: LocalServicesSettings
  readonly #findings = new Map<string, Finding>()
  #manifests: readonly Manifest[] = []
  #guarded: ReadonlySet<ServiceName> = new Set()
  #services: readonly KnownService[] = []
  /** Each service as it is known, and by what. */
  readonly #made = new Map<string, { readonly facts: Facts; readonly known: KnownService }>()
  #onChange: () => void = () => {}
  #timer: Timer | null = null
  #looking: Promise<void> = Promise.resolve()
  #isReady = false
  #stopped = false
  /** Units that manifests name. */
  #units: ReadonlySet<string> = new Set()
  readonly #unitWatch: UnitWatch

  constructor(parts: LocalServicesParts, settings: LocalServicesSettings) {
    this.#parts = parts
    this.#settings = settings
    this.#unitWatch = new UnitWatch({ onHint: () => this.#look(), names: () => this.#units })
  }

  get services(): readonly KnownService[] {
    return this.#services
  }

  /** Whether the manifests in force have been looked at. */
  get isReady(): boolean {
    return this.#isReady
  }

  /** Says who is told of every change. */
  onChange(listener: () => void): void {
    this.#onChange = listener
  }

  /** Resolves when all manifests taken over so far have been looked at. */
  async looked(): Promise<void> {
    await this.#looking
  }

  /** Takes over the manifests in force. */
  setManifests(manifests: readonly Manifest[]): void {
    this.#manifests = manifests
    this.#look()
  }

  /** Services whose policy names callers: whoever went around the mesh would go around it. */
  setGuarded(services: ReadonlySet<ServiceName>): void {
    if ([...services].join() === [...this.#guarded].join()) return
    this.#guarded = services
    this.#look()
  }

  /** Looks no more. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#timer?.stop()
    this.#unitWatch.stop()
    await this.#looking
  }

  #look(): void {
    this.#timer?.stop()
    this.#looking = this.#looking.then(() => this.#lookOnce())
  }

  async #lookOnce(): Promise<void> {
    if (this.#stopped) return
    const manifests = this.#manifests
    const asked = manifests.filter(dependsOnListener).flatMap(placesOf)
    const entries = asked.length > 0 ? (this.#parts.sockets ?? kernelSockets).listening(asked) : []
    this.#units = new Set(manifests.flatMap(({ run }) => (run?.kind === 'unit' ? run.unit : [])))
    const groups = await unitGroups(this.#units)
    if (this.#stopped) return
    for (const group of groups.values()) this.#unitWatch.add(directoryOf(group))
    const listening = Map.groupBy(entries, ({ port }) => port)
    const taken = new Map<number, string>()
    const services: KnownService[] = []
    const seen: SeenListeners[] = []
    // Those who say who they are come first: nobody else gets their user by chance.
    const inOrder = [true, false].flatMap((named) =>
      manifests.filter((one) => isNamed(one) === named),
    )
    for (const manifest of inOrder) {
      const { service } = manifest
      const found = this.#find(manifest, listening, groups)
      const finding = found instanceof Promise ? await found : found
      this.#findings.set(service, finding)
      // Several units may be of one user.
      const isOne = finding.unit === undefined && finding.user !== null
      const holder = isOne ? taken.get(finding.user) : undefined
      const user = holder === undefined ? finding.user : null
      if (user !== null && isOne) taken.set(user, service)
      const listeners = placesOf(manifest).map((one) => listenerAt(listening, one))
      const holdsPort =
        manifest.owner === undefined ||
        (manifest.port !== undefined &&
          user !== null &&
          listeners.every((listener) => listener === user))
      const { named = null } = finding
      if (manifest.owner !== undefined) seen.push({ manifest, user: named, listeners })
      const isGuarded = this.#guarded.has(service)
      services.push(this.#known({ manifest, finding, holder, holdsPort, isGuarded }))
    }
    if (this.#stopped) return
    const known = new Set(manifests.map(({ service }) => service as string))
    for (const name of this.#findings.keys()) {
      if (known.has(name)) continue
      this.#findings.delete(name)
      this.#made.delete(name)
    }
    this.#take(services.toSorted((a, b) => (a.service < b.service ? -1 : 1)))
    this.owners.take(seen)
    // Whoever listens where a local user says may be another at any time.
    const allSaid = manifests.every(({ run, owner }) => run?.kind === 'user' && owner === undefined)
    if (allSaid && services.every(isSettled)) return
    const isOpen = manifests.some(({ run }) => run?.kind === 'unit') || !services.every(isSettled)
    const { lookMs = 1000 } = this.#settings
    this.#timer = this.#parts.clock.after(isOpen ? lookMs : calm * lookMs, () => this.#look())
  }

  /** As what a service is known; the same object for as long as it says the same. */
  #known(facts: Facts): KnownService {
    const { manifest, finding, holder, holdsPort, isGuarded } = facts
    const { service, address, port, intercept, onAgentDown } = manifest
    const before = this.#made.get(service)
    if (before !== undefined && isSameFacts(before.facts, facts)) return before.known
    const { unit } = finding
    const user = holder === undefined ? finding.user : null
    const problem =
      holder === undefined
        ? finding.problem
        : `user ${finding.user} is known as ${holder} already; give it a user of its own`
    const inbound = isGuarded && manifest.inbound !== 'off' ? 'strict' : manifest.inbound
    const at = port === undefined ? null : { address, port }
    const where = { at, also: placesOf(manifest).slice(1), holdsPort, isGuarded }
    const who = { user, ...(unit === undefined ? {} : { unit }) }
    const now = { service, ...who, ...where, inbound, intercept, onAgentDown, problem }
    const isSame = JSON.stringify(before?.known) === JSON.stringify(now)
    const known = before !== undefined && isSame ? before.known : now
    this.#made.set(service, { facts, known })
    return known
  }

  #take(services: readonly KnownService[]): void {
    const isFirst = !this.#isReady
    this.#isReady = true
    const { length } = this.#services
    const isSame = services.every((one, index) => one === this.#services[index])
    if (!isFirst && isSame && services.length === length) return
    const before = new Map(this.#services.map((one) => [one.service, one]))
    const { logger } = this.#parts
    for (const one of services) {
      const { service, user, unit, problem } = one
      const was = before.get(service)
      if (was === one) continue
      if (unit !== undefined && was?.unit?.group?.id !== unit.group?.id) {
        const { name, group } = unit
        logger.info({ service, unit: name, runs: group !== null }, 'caller known by its unit')
      } else if (unit === undefined && (was?.user !== user || was?.problem !== problem))
        logger.info({ service, user, problem }, 'caller known by its user')
      else if (problem !== '' && was?.problem !== problem)
        logger.warn({ service, problem }, 'who may answer for a service is not known')
    }
    this.#services = services
    this.#onChange()
  }

  #find(
    manifest: Manifest,
    listening: Listening,
    groups: ReadonlyMap<string, UnitGroup>,
  ): Finding | Promise<Finding> {
    const { service, address, port, run } = manifest
    const name = userOf(manifest)
    const unit = run?.kind === 'unit' ? run.unit : ''
    const made = `${name ?? ''} ${unit} ${address} ${port ?? ''}`
    const before = this.#findings.get(service)
    const known = before?.made === made ? before : undefined
    if (unit !== '') {
      const group = groups.get(unit) ?? null
      return this.#started(
        made,
        { unit: { name: unit, group }, isServed: port !== undefined },
        known,
      )
    }
    if (name === undefined) return this.#owned(made, manifest, listening, known)
    return known?.isFinal === true ? known : this.#named(made, name)
  }

  async #named(made: string, name: string): Promise<Finding> {
    const user = await (this.#parts.userNumber ?? userNumber)(name)
    const problem =
      user === null
        ? `there is no user ${name} on this host`
        : user === 0 || user === this.#settings.agentUser
          ? `user ${name} is ${user === 0 ? 'root' : 'the agent’s own'}, which is no identity`
          : ''
    const isIdentity = problem === ''
    return { made, user: isIdentity ? user : null, named: user, problem, isFinal: user !== null }
  }

  /** A unit that has started again may be of another user. */
  async #started(
    made: string,
    { unit, isServed }: { readonly unit: KnownUnit; readonly isServed: boolean },
    known: Finding | undefined,
  ): Promise<Finding> {
    const isSame = known?.unit?.group?.id === unit.group?.id
    if (known !== undefined && isSame) return known
    if (known !== undefined && unit.group === null) return { ...known, unit }
    // Who calls only is asked by nobody.
    const nobody = { user: null, problem: '' }
    const { user, problem } = isServed
      ? await (this.#parts.unitUser ?? unitUser)(unit.name)
      : nobody
    const isAgent = user === this.#settings.agentUser && user !== 0
    return { made, user: isAgent ? null : user, unit, problem, isFinal: false }
  }

  #owned(
    made: string,
    { address, port }: Manifest,
    listening: Listening,
    known: Finding | undefined,
  ): Finding {
    if (port === undefined) {
      const problem = 'it has no port and names no user; add "run": {"user": …}'
      return { made, user: null, problem, isFinal: true }
    }
    const owner = listenerAt(listening, { address, port })
    if (known?.user !== undefined && known.user !== null) {
      const isOther = owner !== null && owner !== known.user && owner !== 0
      const problem = isOther
        ? `user ${owner} listens at port ${port}, which user ${known.user} had; name the right one with "run"`
        : ''
      return known.problem === problem ? known : { ...known, problem }
    }
    const isNobody = owner === null || owner === 0 || owner === this.#settings.agentUser
    const problem =
      owner === null
        ? 'it does not listen yet'
        : isNobody
          ? `its socket belongs to ${owner === 0 ? 'root' : 'the agent’s own user'}; name its user with "run"`
          : ''
    if (isNobody && known?.problem === problem) return known
    return { made, user: isNobody ? null : owner, problem, isFinal: false }
  }
}

/** Whether a service is known as the same by them. */
function isSameFacts(a: Facts, b: Facts): boolean {
  return (
    a.manifest === b.manifest &&
    a.finding === b.finding &&
    a.holder === b.holder &&
    a.holdsPort === b.holdsPort &&
    a.isGuarded === b.isGuarded
  )
}

/** The user whose socket listens at a place; null where none does. */
function listenerAt(listening: Listening, at: Place): number | null {
  return listenerOf(listening.get(at.port) ?? [], at)
}

/** Whether nothing about it is expected to change. */
function isSettled({ problem, at, holdsPort }: KnownService): boolean {
  return problem === '' && (at === null || holdsPort)
}

/** The user a manifest speaks of: the one it names, or whose it is. */
function userOf({ run, owner }: Manifest): string | undefined {
  return run?.kind === 'user' ? run.user : owner
}

/** Whether a manifest says who its service is. */
function isNamed(manifest: Manifest): boolean {
  return manifest.run !== undefined || userOf(manifest) !== undefined
}

/** Where it is served, the main port first. */
function placesOf(manifest: Manifest): readonly Place[] {
  return servedPorts(manifest).map(({ port }) => ({ address: manifest.address, port }))
}

/** Whether it matters who listens at the port. */
function dependsOnListener({ run, owner }: Manifest): boolean {
  return run === undefined || owner !== undefined
}
