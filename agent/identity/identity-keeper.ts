/**
 * Owns when this host asks for what: it enrols once, keeps its credential and one per wanted local
 * service fresh, and knows the mesh it belongs to. The rules of renewal are in `renewal.ts`, what is held
 * in `holdings.ts`, each call in `issuance.ts`. What is held serves until its end, whatever the
 * controller does.
 */

import type { CredentialMessage } from '#agent/workers/messages.ts'
import type { Clock, Random, Timer } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { Contact } from '#shared/model/admin.ts'
import type { HostName, ServiceName } from '#shared/model/names.ts'
import { ControllerContact } from './controller-contact.ts'
import type { ControllerPort, ControllerSession } from './controller-port.ts'
import { Holdings } from './holdings.ts'
import type { IdentityFiles } from './identity-files.ts'
import type { IdentityProblem } from './identity-slot.ts'
import { IdentitySlot } from './identity-slot.ts'
import { Issuance } from './issuance.ts'
import { KeptSession } from './kept-session.ts'
import type { MeshFacts } from './mesh-facts.ts'
import { idOfToken, NewToken } from './new-token.ts'
import { dueAtMs, isValid } from './renewal.ts'
import type { TrustKeeper } from './trust-keeper.ts'

/** What the keeper leans on. */
export interface IdentityKeeperParts {
  readonly controller: ControllerPort
  readonly files: IdentityFiles
  readonly trust: TrustKeeper
  /** The join token, or null where there is none. Asked at every try, so that it may come later. */
  readonly joinToken: () => Promise<string | null>
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
}

/** The keeper's settings. */
export interface IdentityKeeperSettings {
  readonly host: HostName
}

/** With nothing else due, the controller is asked about the mesh, and the token looked at, this often. */
const lookEveryMs = 60_000
/** How soon it is asked when something is away that it knows the place of; spread over the hosts. */
const lookAgainMs = 10_000
/** How soon another token is seen by a host that can do nothing without one. */
const tokenLookMs = 5000
/** Failures after which nobody else of the round is asked for. */
const roundEnding: ReadonlySet<string> = new Set([
  'controller-unavailable',
  'controller-timeout',
  'controller-cancelled',
])

/** See the header. */
export class IdentityKeeper {
  readonly #parts: IdentityKeeperParts
  readonly #holdings: Holdings
  readonly #issuance: Issuance
  readonly #listeners = new Set<() => void>()
  /** What came of asking about the mesh. */
  readonly #meshSlot: IdentitySlot
  readonly #newToken: NewToken
  readonly #contact: ControllerContact
  /** Public id of the token last tried by a host without a valid certificate. */
  #tried: string | null = null
  /** When to ask about the mesh. */
  #describeAtMs = 0
  readonly #kept: KeptSession
  /** When the first of the certificates ends that are valid as far as others were told. */
  #endsAtMs = Infinity
  #timer: Timer | null = null
  #round: Promise<void> | null = null
  #again = false
  #started = false
  readonly #stopping = new AbortController()

  constructor(parts: IdentityKeeperParts, settings: IdentityKeeperSettings) {
    const { signal } = this.#stopping
    this.#parts = parts
    this.#holdings = new Holdings(parts, settings)
    this.#meshSlot = new IdentitySlot(parts, { identity: 'host', lastMs: lookEveryMs })
    this.#contact = new ControllerContact(parts)
    this.#issuance = new Issuance(
      {
        ...parts,
        holdings: this.#holdings,
        contact: this.#contact,
        signal,
        onDescribed: () => this.#describeLater(),
        onIssued: () => this.#changed(),
      },
      settings,
    )
    const enrol = (token: string): Promise<void> => this.#issuance.enrol(token)
    this.#newToken = new NewToken({ ...parts, enrol, signal })
    this.#kept = new KeptSession(parts)
    parts.trust.onChange(() => this.#onTrust())
  }

  /**
   * Reads what is on disk and begins. Resolves before the controller was asked anything, so that a
   * host starts with the controller away. Throws MeshError `state-unusable`, `state-newer`.
   */
  async start(): Promise<void> {
    const { files, logger, trust } = this.#parts
    const loaded = await files.load()
    for (const problem of loaded.problems) {
      logger.warn({ problem }, 'a credential file cannot be used; asking for a new one')
    }
    this.#holdings.load(loaded, files.hostPath)
    const { described } = this.#holdings
    if (described !== null) {
      const { trustDomain, trustBundlePem: bundlePem } = described
      await trust.load({ trustDomain, bundlePem })
    }
    this.#started = true
    this.#changed()
    this.#wake()
  }

  /** Ends every call under way; what is held stays on disk. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    this.#timer?.stop()
    this.#kept.close()
    await this.#round
  }

  /** Says which local services need a credential; the whole set, each time. */
  want(services: ReadonlySet<ServiceName>): void {
    this.#holdings.want(services)
    this.#changed()
    this.#wake()
  }

  /**
   * The host's credential and those of wanted services, ended ones included so that they are named.
   * The same array until one of them is another.
   */
  get credentials(): readonly CredentialMessage[] {
    return this.#holdings.credentials
  }

  /** The credential of one service; null where none is held. */
  credentialOf(service: ServiceName): CredentialMessage | null {
    return this.#holdings.credentialOf(service)
  }

  /** The host's own credential, for the store; null until the host has enrolled. */
  get host(): CredentialMessage | null {
    return this.#holdings.host.message
  }

  /** What is known of the mesh; null until the host has enrolled. */
  get mesh(): MeshFacts | null {
    return this.#holdings.mesh
  }

  /** Every trusted root, PEM; null until the host has enrolled. */
  get bundlePem(): string | null {
    return this.mesh?.trustBundlePem ?? null
  }

  /** The last failure of each identity whose last try failed. */
  get problems(): readonly IdentityProblem[] {
    const { host: hostSlot, wanted } = this.#holdings
    const own = [hostSlot, this.#newToken, this.#meshSlot]
    const host = own.find(({ problem }) => problem !== null) ?? hostSlot
    const slots = [host, ...wanted.map(([, slot]) => slot)]
    return slots.flatMap(({ problem }) => (problem === null ? [] : [problem]))
  }

  /** Whether the controller answers; `sinceMs` is the first failure of the outage. */
  get contact(): Contact {
    return this.#contact.state
  }

  /** Asks the controller about the mesh soon: something does not answer where it was said to be. */
  lookAgain(): void {
    const { clock, random } = this.#parts
    const soonMs = clock.now() + lookAgainMs * (0.1 + 0.9 * random.fraction())
    if (soonMs >= this.#describeAtMs) return
    this.#describeAtMs = soonMs
    this.#wake()
  }

  /** Calls `listener` after every change of the above, and at the end of a certificate. Answers how to stop listening. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  get #stopped(): boolean {
    return this.#stopping.signal.aborted
  }

  #changed(): void {
    for (const listener of this.#listeners) listener()
  }

  get #nextDescribeMs(): number {
    return Math.max(this.#describeAtMs, this.#meshSlot.retryAtMs)
  }

  #describeLater(): void {
    const jitter = 0.75 + this.#parts.random.fraction() / 2
    this.#describeAtMs = this.#parts.clock.now() + lookEveryMs * jitter
  }

  /** Starts a round now, or another one right after the one under way. */
  #wake(): void {
    if (this.#stopped || !this.#started) return
    this.#timer?.stop()
    if (this.#round !== null) {
      this.#again = true
      return
    }
    this.#round = this.#runRound().finally(() => {
      this.#round = null
      if (this.#again) {
        this.#again = false
        this.#wake()
      } else this.#sleep()
    })
  }

  #sleep(): void {
    if (this.#stopped) return
    this.#kept.rest()
    const now = this.#parts.clock.now()
    this.#endsAtMs = this.#holdings.endsAfter(now)
    const times = [dueAtMs(this.#holdings.host), this.#endsAtMs]
    if (isValid(this.#holdings.host, now)) {
      times.push(this.#nextDescribeMs)
      times.push(...this.#holdings.wanted.map(([, slot]) => dueAtMs(slot)))
    }
    const next = Math.min(...times)
    const longest = isValid(this.#holdings.host, now) ? lookEveryMs : tokenLookMs
    const waitMs = Math.min(longest, Math.max(0, next - now))
    this.#timer = this.#parts.clock.after(waitMs, () => this.#wake())
  }

  async #runRound(): Promise<void> {
    this.#kept.hold()
    const now = this.#parts.clock.now()
    await this.#forgetEnded(now)
    // Where a controller is away nothing else tells of an end.
    if (this.#endsAtMs <= now) this.#changed()
    const due = (slot: IdentitySlot): boolean => dueAtMs(slot) <= now
    if (isValid(this.#holdings.host, now)) await this.#lookAtToken(now)
    else if (due(this.#holdings.host) || (await this.#isOtherToken())) await this.#enrolAtLast()
    if (isValid(this.#holdings.host, this.#parts.clock.now())) await this.#ask()
  }

  /** Asks the controller for everything that is due, one after the other, over one session. */
  async #ask(): Promise<void> {
    const asked = new Set<IdentitySlot>()
    let ended: unknown = null
    for (let step = this.#next(asked); step !== null; step = this.#next(asked)) {
      const { slot, run } = step
      asked.add(slot)
      let session: ControllerSession | null = null
      try {
        if (ended !== null) throw ended
        session = this.#takeSession()
        await run(session)
        slot.succeed()
        if (this.#contact.state.kind === 'down') this.#tryAgain(asked)
        this.#contact.heard(null)
      } catch (error) {
        if (this.#stopped) break
        if (session !== null) this.#contact.heard(error)
        if (session === null || isRoundEnding(error)) ended = error
        slot.fail(error)
      }
    }
    // Whoever did not answer is asked over a new connection, at the pace of the tries.
    if (ended !== null) this.#kept.close()
    if (asked.size > 0) this.#changed()
  }

  /** @throws whatever the controller's port does where it cannot be asked */
  #takeSession(): ControllerSession {
    return this.#kept.take(this.#holdings.file)
  }

  /**
   * The controller is back: whoever found it away need not wait any longer, least of all with a
   * certificate that has ended meanwhile. Who is under way has its turn; its pace is its own.
   */
  #tryAgain(asked: ReadonlySet<IdentitySlot>): void {
    for (const slot of this.#holdings.slots) {
      const wasAway = slot.problem?.code === 'controller-unavailable'
      if (wasAway && !asked.has(slot)) slot.again()
    }
  }

  /**
   * What is due and was not asked for yet in this round. Somebody waits for a service's first
   * certificate, and for nothing else; only who has just started hears first what became of the mesh.
   */
  #next(asked: ReadonlySet<IdentitySlot>): Step | null {
    const mesh = this.#holdings.described
    if (this.#stopped || mesh === null) return null
    const now = this.#parts.clock.now()
    const isDue = (slot: IdentitySlot): boolean => dueAtMs(slot) <= now && !asked.has(slot)
    const describe = this.#nextDescribeMs <= now && !asked.has(this.#meshSlot)
    const due = this.#holdings.wanted.filter(([, slot]) => isDue(slot))
    const first = due.find(([, slot]) => slot.held === null)
    if (first !== undefined && !(describe && this.#describeAtMs === 0)) {
      return this.#renewal(mesh, first)
    }
    if (describe) {
      return { slot: this.#meshSlot, run: (session) => this.#issuance.describe(session, mesh) }
    }
    if (isDue(this.#holdings.host)) {
      return {
        slot: this.#holdings.host,
        run: (session) => this.#issuance.renewHost(session, mesh),
      }
    }
    return due[0] === undefined ? null : this.#renewal(mesh, due[0])
  }

  #renewal(mesh: MeshFacts, due: readonly [ServiceName, IdentitySlot]): Step {
    const [, slot] = due
    return { slot, run: (session) => this.#issuance.renewService(session, mesh, due) }
  }

  /** Enrols a host that has no valid certificate. */
  async #enrolAtLast(): Promise<void> {
    try {
      const token = await this.#parts.joinToken()
      if (token === null) throw this.#holdings.lost()
      this.#tried = idOfToken(token)
      await this.#issuance.enrol(token)
      this.#holdings.host.succeed()
      // What was refused for want of a host certificate need not wait any longer.
      for (const [, slot] of this.#holdings.wanted) slot.again()
    } catch (error) {
      if (!this.#stopped) this.#holdings.host.fail(error)
    }
    this.#changed()
  }

  /** Whether somebody brought another token than the one that did not help. */
  async #isOtherToken(): Promise<boolean> {
    const token = await this.#parts.joinToken().catch(() => null)
    return token !== null && idOfToken(token) !== this.#tried
  }

  async #lookAtToken(now: number): Promise<void> {
    const outcome = await this.#newToken.look(now, this.#holdings.enrolledWith)
    if (outcome === 'enrolled') for (const [, slot] of this.#holdings.wanted) slot.again()
    if (outcome !== 'nothing') this.#changed()
  }

  /** Certificates under a root that is to go are renewed, each at a moment of its own. */
  #onTrust(): void {
    this.#holdings.hurry()
    this.#kept.expire()
    this.#changed()
    this.#wake()
  }

  /** Ended credentials of services nobody wants any more are of no use to anybody. */
  async #forgetEnded(now: number): Promise<void> {
    const { files, logger } = this.#parts
    for (const service of this.#holdings.forgetEnded(now)) {
      try {
        await files.removeService(service)
      } catch (error) {
        logger.warn({ err: error, service }, 'an old credential file was not removed')
      }
    }
  }
}

/** One call of a round, on behalf of one identity. */
interface Step {
  readonly slot: IdentitySlot
  readonly run: (session: ControllerSession) => Promise<void>
}

/** Whether every other call of the round would meet it too. */
function isRoundEnding(error: unknown): boolean {
  return error instanceof MeshError && roundEnding.has(error.code)
}
