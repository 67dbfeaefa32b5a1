/**
 * Owns the identities of this host: enrols it once, keeps its credential and one per wanted local
 * service fresh, each with a new key, and knows the mesh it belongs to. The rules of renewal are in
 * `renewal.ts`; what is held serves until its end, whatever the controller does. It is longer than
 * others because each step of a round reads and changes the same few things.
 */

import type { CredentialMessage } from '#agent/workers/messages.ts'
import type { Clock, Random, Timer } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { Contact } from '#shared/model/admin.ts'
import type { HostName, ServiceName } from '#shared/model/names.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import { hostId, serviceId } from '#shared/model/spiffe-id.ts'
import { makeCsr } from '#shared/pki/csr.ts'
import { generateKey, keyToPem } from '#shared/pki/keys.ts'
import { rootOfChain } from '#shared/pki/root-name.ts'
import type { Issued } from '#shared/rpc/host-messages.ts'
import { ControllerContact } from './controller-contact.ts'
import type { ControllerPort, ControllerSession } from './controller-port.ts'
import type { HeldCredential } from './held-credential.ts'
import { holdCredential } from './held-credential.ts'
import type { HostFile, IdentityFiles } from './identity-files.ts'
import type { MeshFacts } from './mesh-facts.ts'
import { parseMesh, trustRecordsOf } from './mesh-facts.ts'
import { accepted, hostLost } from './identity-errors.ts'
import type { IdentityProblem } from './identity-slot.ts'
import { IdentitySlot } from './identity-slot.ts'
import { KeptSession } from './kept-session.ts'
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
/** Longest wait for a controller that is away of a host that can do nothing without a certificate. */
const lastAwayMs = 20_000
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
  readonly #host: HostName
  readonly #hostSlot: IdentitySlot
  readonly #services = new Map<ServiceName, IdentitySlot>()
  readonly #listeners = new Set<() => void>()
  #wanted: ReadonlySet<ServiceName> = new Set()
  #credentials: readonly CredentialMessage[] = []
  #mesh: MeshFacts | null = null
  /** What came of asking about the mesh. */
  readonly #meshSlot: IdentitySlot
  readonly #newToken: NewToken
  readonly #contact: ControllerContact
  /** Public id of the token this host enrolled with. */
  #enrolledWith: string | null = null
  /** Public id of the token last tried by a host without a valid certificate. */
  #tried: string | null = null
  /** When to ask about the mesh. */
  #describeAtMs = 0
  /** Why the host's file could not be read. */
  #damage: MeshError | null = null
  readonly #kept: KeptSession
  #timer: Timer | null = null
  #round: Promise<void> | null = null
  #again = false
  #started = false
  readonly #stopping = new AbortController()

  constructor(parts: IdentityKeeperParts, settings: IdentityKeeperSettings) {
    this.#parts = parts
    this.#host = settings.host
    this.#hostSlot = new IdentitySlot(parts, { identity: 'host', lastAwayMs })
    this.#meshSlot = new IdentitySlot(parts, { identity: 'host', lastMs: lookEveryMs })
    this.#newToken = new NewToken({
      ...parts,
      enrol: (token) => this.#enrol(token),
      signal: this.#stopping.signal,
    })
    this.#contact = new ControllerContact(parts)
    this.#kept = new KeptSession(parts)
    parts.trust.onChange(() => this.#onTrust())
  }

  /**
   * Reads what is on disk and begins. Resolves before the controller was asked anything, so that a
   * host starts with the controller away. Throws MeshError `state-unusable`, `state-newer`.
   */
  async start(): Promise<void> {
    const { files, logger } = this.#parts
    const loaded = await files.load()
    for (const problem of loaded.problems) {
      logger.warn({ problem }, 'a credential file cannot be used; asking for a new one')
    }
    if (loaded.host?.ok === true) {
      this.#takeHost(loaded.host.value)
      const { trustDomain, trustBundlePem: bundlePem } = loaded.host.value.mesh
      await this.#parts.trust.load({ trustDomain, bundlePem })
    } else if (loaded.host !== null) {
      this.#damage = hostLost('host-file-damaged', `${files.hostPath}: ${loaded.host.problem}`)
    }
    for (const [service, held] of loaded.services) this.#slotOf(service).held = held
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
    this.#wanted = new Set(services)
    for (const service of services) this.#slotOf(service)
    this.#changed()
    this.#wake()
  }

  /**
   * The host's credential and those of wanted services, ended ones included so that they are named.
   * The same array until one of them is another.
   */
  get credentials(): readonly CredentialMessage[] {
    const host = this.host
    const all = host === null ? [] : [host]
    for (const [service, { message }] of this.#services) {
      if (message !== null && this.#wanted.has(service)) all.push(message)
    }
    const before = this.#credentials
    const isSame = all.length === before.length && all.every((one, at) => one === before[at])
    if (!isSame) this.#credentials = all
    return this.#credentials
  }

  /** The credential of one service; null where none is held. */
  credentialOf(service: ServiceName): CredentialMessage | null {
    return this.#wanted.has(service) ? (this.#services.get(service)?.message ?? null) : null
  }

  /** The host's own credential, for the store; null until the host has enrolled. */
  get host(): CredentialMessage | null {
    return this.#hostSlot.message
  }

  /** What is known of the mesh; null until the host has enrolled. */
  get mesh(): MeshFacts | null {
    return this.#mesh === null ? null : this.#trusted(this.#mesh)
  }

  /** Every trusted root, PEM; null until the host has enrolled. */
  get bundlePem(): string | null {
    return this.mesh?.trustBundlePem ?? null
  }

  /** The last failure of each identity whose last try failed. */
  get problems(): readonly IdentityProblem[] {
    const own = [this.#hostSlot, this.#newToken, this.#meshSlot]
    const host = own.find(({ problem }) => problem !== null) ?? this.#hostSlot
    const slots = [host, ...this.#wantedSlots().map(([, slot]) => slot)]
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

  /** Calls `listener` after every change of the above. Answers how to stop listening. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  #slotOf(service: ServiceName): IdentitySlot {
    const slot = this.#services.get(service) ?? new IdentitySlot(this.#parts, { identity: service })
    this.#services.set(service, slot)
    return slot
  }

  get #stopped(): boolean {
    return this.#stopping.signal.aborted
  }

  #wantedSlots(): readonly (readonly [ServiceName, IdentitySlot])[] {
    return [...this.#services].filter(([service]) => this.#wanted.has(service))
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
    const times = [dueAtMs(this.#hostSlot)]
    if (isValid(this.#hostSlot, now)) {
      times.push(this.#nextDescribeMs)
      times.push(...this.#wantedSlots().map(([, slot]) => dueAtMs(slot)))
    }
    const next = Math.min(...times)
    const longest = isValid(this.#hostSlot, now) ? lookEveryMs : tokenLookMs
    const waitMs = Math.min(longest, Math.max(0, next - now))
    this.#timer = this.#parts.clock.after(waitMs, () => this.#wake())
  }

  async #runRound(): Promise<void> {
    this.#kept.hold()
    const now = this.#parts.clock.now()
    await this.#forgetEnded(now)
    const due = (slot: IdentitySlot): boolean => dueAtMs(slot) <= now
    if (isValid(this.#hostSlot, now)) await this.#lookAtToken(now)
    else if (due(this.#hostSlot) || (await this.#isOtherToken())) await this.#enrolAtLast()
    if (isValid(this.#hostSlot, this.#parts.clock.now())) await this.#ask()
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
    const { held } = this.#hostSlot
    if (held === null || this.#mesh === null) throw this.#noToken()
    return this.#kept.take(this.#fileOf(held, this.#mesh))
  }

  /**
   * The controller is back: whoever found it away need not wait any longer, least of all with a
   * certificate that has ended meanwhile. Who is under way has its turn; its pace is its own.
   */
  #tryAgain(asked: ReadonlySet<IdentitySlot>): void {
    for (const slot of [this.#hostSlot, ...this.#services.values()]) {
      const wasAway = slot.problem?.code === 'controller-unavailable'
      if (wasAway && !asked.has(slot)) slot.again()
    }
  }

  /**
   * What is due and was not asked for yet in this round. Somebody waits for a service's first
   * certificate, and for nothing else; only who has just started hears first what became of the mesh.
   */
  #next(asked: ReadonlySet<IdentitySlot>): Step | null {
    const mesh = this.#mesh
    if (this.#stopped || mesh === null) return null
    const now = this.#parts.clock.now()
    const isDue = (slot: IdentitySlot): boolean => dueAtMs(slot) <= now && !asked.has(slot)
    const describe = this.#nextDescribeMs <= now && !asked.has(this.#meshSlot)
    const due = this.#wantedSlots().filter(([, slot]) => isDue(slot))
    const first = due.find(([, slot]) => slot.held === null)
    if (first !== undefined && !(describe && this.#describeAtMs === 0)) {
      return this.#renewal(mesh, first)
    }
    if (describe) {
      return { slot: this.#meshSlot, run: (session) => this.#describe(session, mesh) }
    }
    if (isDue(this.#hostSlot)) {
      return { slot: this.#hostSlot, run: (session) => this.#renewHost(mesh, session) }
    }
    return due[0] === undefined ? null : this.#renewal(mesh, due[0])
  }

  #renewal(mesh: MeshFacts, [service, slot]: readonly [ServiceName, IdentitySlot]): Step {
    return { slot, run: (session) => this.#renewService(mesh, service, slot, session) }
  }

  /** Enrols a host that has no valid certificate. */
  async #enrolAtLast(): Promise<void> {
    try {
      const token = await this.#parts.joinToken()
      if (token === null) throw this.#noToken()
      this.#tried = idOfToken(token)
      await this.#enrol(token)
      this.#hostSlot.succeed()
      // What was refused for want of a host certificate need not wait any longer.
      for (const [, slot] of this.#wantedSlots()) slot.again()
    } catch (error) {
      if (!this.#stopped) this.#hostSlot.fail(error)
    }
    this.#changed()
  }

  /** Whether somebody brought another token than the one that did not help. */
  async #isOtherToken(): Promise<boolean> {
    const token = await this.#parts.joinToken().catch(() => null)
    return token !== null && idOfToken(token) !== this.#tried
  }

  async #lookAtToken(now: number): Promise<void> {
    const outcome = await this.#newToken.look(now, this.#enrolledWith)
    if (outcome === 'enrolled') for (const [, slot] of this.#wantedSlots()) slot.again()
    if (outcome !== 'nothing') this.#changed()
  }

  async #enrol(token: string): Promise<void> {
    const key = await generateKey()
    const csr = await makeCsr(key)
    const { signal } = this.#stopping
    const reply = await this.#parts.controller
      .enrol(token, csr, this.#host, signal)
      .catch((error: unknown) => {
        if (!this.#stopped) this.#contact.heard(error)
        throw error
      })
    this.#contact.heard(null)
    const mesh = accepted(parseMesh(reply.mesh))
    const id = hostId(mesh.trustDomain, this.#host)
    const credential = this.#accept(reply.certificate, keyToPem(key), id)
    await this.#parts.trust.anchor(mesh.trustDomain, mesh.trustBundlePem)
    await this.#parts.trust.offer(trustRecordsOf(reply.mesh))
    const file: HostFile = { credential, mesh, tokenId: idOfToken(token) }
    this.#takeHost(file)
    this.#dropForeign(mesh)
    this.#describeLater()
    await this.#parts.files.saveHost(file)
    const { serial } = credential
    this.#parts.logger.info({ id, serial, controller: mesh.controller }, 'host enrolled')
  }

  async #describe(session: ControllerSession, known: MeshFacts): Promise<void> {
    const described = await session.describeMesh()
    const mesh = accepted(parseMesh(described))
    if (mesh.trustDomain !== known.trustDomain) {
      throw new MeshError(
        `the controller now speaks for trust domain "${mesh.trustDomain}", not "${known.trustDomain}"`,
        { code: 'trust-domain-changed', hint: 'is the controller address right?' },
      )
    }
    this.#describeLater()
    await this.#parts.trust.offer(trustRecordsOf(described))
    const { held } = this.#hostSlot
    if (held === null || JSON.stringify(this.#trusted(mesh)) === JSON.stringify(known)) return
    this.#mesh = this.#trusted(mesh)
    await this.#parts.files.saveHost(this.#fileOf(held, mesh))
  }

  async #renewHost(mesh: MeshFacts, session: ControllerSession): Promise<void> {
    const key = await generateKey()
    const issued = await session.renewHost(await makeCsr(key))
    const id = hostId(mesh.trustDomain, this.#host)
    const credential = this.#accept(issued, keyToPem(key), id)
    this.#hostSlot.held = credential
    this.#rotated(credential)
    await this.#parts.files.saveHost(this.#fileOf(credential, this.#mesh ?? mesh))
  }

  async #renewService(
    mesh: MeshFacts,
    service: ServiceName,
    slot: IdentitySlot,
    session: ControllerSession,
  ): Promise<void> {
    const key = await generateKey()
    const issued = await session.issueService(service, await makeCsr(key))
    const id = serviceId(mesh.trustDomain, service)
    const credential = this.#accept(issued, keyToPem(key), id)
    slot.held = credential
    this.#rotated(credential)
    await this.#parts.files.saveService(service, credential)
  }

  #accept(issued: Issued, keyPem: string, expected: SpiffeId): HeldCredential {
    return this.#hurried(accepted(holdCredential(this.#parts, issued.chainPem, keyPem, expected)))
  }

  #fileOf(credential: HeldCredential, mesh: MeshFacts): HostFile {
    return { credential, mesh: this.#trusted(mesh), tokenId: this.#enrolledWith }
  }

  /** What to trust is told by signed records alone, whatever a description says. */
  #trusted(mesh: MeshFacts): MeshFacts {
    const { trust } = this.#parts.trust
    return trust?.trustDomain === mesh.trustDomain
      ? { ...mesh, trustBundlePem: trust.bundlePem }
      : mesh
  }

  /** Certificates under a root that is to go are renewed, each at a moment of its own. */
  #onTrust(): void {
    for (const slot of [this.#hostSlot, ...this.#services.values()]) {
      if (slot.held !== null) slot.held = this.#hurried(slot.held)
    }
    this.#kept.expire()
    this.#changed()
    this.#wake()
  }

  #hurried(held: HeldCredential): HeldCredential {
    const { trust } = this.#parts.trust
    if (trust === null || trust.issuing === null) return held
    if (rootOfChain(held.chainPem, trust.roots) === trust.issuing) return held
    const { clock, random } = this.#parts
    const renewAtMs = clock.now() + trust.spreadMs * random.fraction()
    return { ...held, renewAtMs: Math.min(held.renewAtMs, renewAtMs) }
  }

  #takeHost(file: HostFile): void {
    this.#mesh = file.mesh
    this.#enrolledWith = file.tokenId
    this.#hostSlot.held = file.credential
  }

  /** Whoever enrols in another mesh has no use for certificates of the first. */
  #dropForeign({ trustDomain }: MeshFacts): void {
    for (const slot of this.#services.values()) {
      if (slot.held?.id.startsWith(`spiffe://${trustDomain}/`) === false) slot.held = null
    }
  }

  #rotated({ id, serial, notAfterMs }: HeldCredential): void {
    this.#parts.logger.info({ id, serial, notAfterMs }, 'certificate issued')
    this.#changed()
  }

  #noToken(): MeshError {
    const { held } = this.#hostSlot
    if (this.#damage !== null && held === null) return this.#damage
    return held === null
      ? hostLost('not-enrolled', `host "${this.#host}" has not enrolled and has no join token`)
      : hostLost(
          'host-certificate-ended',
          `the certificate of host "${this.#host}" ended at ${new Date(held.notAfterMs).toISOString()}`,
        )
  }

  async #remove(service: ServiceName): Promise<void> {
    try {
      await this.#parts.files.removeService(service)
    } catch (error) {
      this.#parts.logger.warn({ err: error, service }, 'an old credential file was not removed')
    }
  }

  /** Ended credentials of services nobody wants any more are of no use to anybody. */
  async #forgetEnded(now: number): Promise<void> {
    for (const [service, slot] of this.#services) {
      if (this.#wanted.has(service) || isValid(slot, now)) continue
      this.#services.delete(service)
      if (slot.held !== null) await this.#remove(service)
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
