/**
 * Owns this controller's place among others on the same store: it registers where it is reached, and
 * takes part in the election of the one that leads, all under one short lease. Who leads stops doing
 * so by its own clock before the store can give the lead to another. It decides nothing beyond that.
 */

import type { Clock, Random } from '#shared/lifecycle/clock.ts'
import { sleep } from '#shared/lifecycle/clock.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { HostName } from '#shared/model/names.ts'
import { controllerKey, controllersPrefix, leaderKey } from '#shared/store/keys.ts'
import type { KeyValue, LeaseId } from '#shared/store/key-value.ts'

/** What a membership leans on. */
export interface MembershipParts {
  readonly store: KeyValue
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
}

/** Its settings. */
export interface MembershipSettings {
  readonly name: HostName
  /** Where agents and operators reach this controller, `host:port`. */
  readonly address: string
  /** How long a place outlives its controller. @default 6000 */
  readonly ttlMs?: number
}

/** A controller as it is registered. */
export interface RegisteredController {
  readonly name: string
  readonly address: string
}

interface Place extends RegisteredController {
  /** Tells this run of the program from an earlier one and from another of the same name. */
  readonly run: string
}

/** See the header. */
export class Membership {
  readonly #parts: MembershipParts
  readonly #ttlMs: number
  readonly #own: Place
  readonly #value: string
  readonly #stopping = new AbortController()
  #lease: LeaseId | null = null
  /** Until when the lease is alive whatever happens, monotonic milliseconds. */
  #sureUntil = 0
  #leads = false
  #leader = ''
  #controllers: readonly RegisteredController[] = []
  #problem = ''
  #running: Promise<void> | null = null

  constructor(parts: MembershipParts, settings: MembershipSettings) {
    this.#parts = parts
    const { name, address, ttlMs = 6000 } = settings
    this.#ttlMs = ttlMs
    this.#own = { name, address, run: parts.random.bytes(8).toString('hex') }
    this.#value = JSON.stringify(this.#own)
    this.#controllers = [{ name, address }]
  }

  /** Whether this controller leads now. */
  get isLeader(): boolean {
    return this.#leads && this.#parts.clock.elapsed() < this.#sureUntil
  }

  /** The name of the one that leads, as last heard; empty while that is nobody. */
  get leader(): string {
    return this.#leader
  }

  /** Every controller there is, as last heard; this one is always among them. */
  get controllers(): readonly RegisteredController[] {
    return this.#controllers
  }

  /** Settles after the first try, whatever became of it. */
  async start(): Promise<void> {
    await this.#round()
    this.#running = this.#run()
  }

  /** Gives the place up, so that another leads at once. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#running
    const lease = this.#lease
    this.#become(false, '')
    if (lease === null) return
    await this.#parts.store.revokeLease(lease, { timeoutMs: 1000 }).catch(() => {})
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping
    const { clock, random } = this.#parts
    while (!signal.aborted) {
      await sleep(clock, (this.#ttlMs / 3) * (0.8 + 0.2 * random.fraction()), signal)
      if (!signal.aborted) await this.#round()
    }
  }

  /** Keeps the lease, the place and the lead, or tries to get them. Never rejects. */
  async #round(): Promise<void> {
    const { logger } = this.#parts
    try {
      await this.#keepLease()
      await this.#register()
      await this.#campaign()
      await this.#look()
      if (this.#problem !== '') logger.info('this controller has its place in the store again')
      this.#problem = ''
    } catch (error) {
      if (error instanceof MeshError && error.code === 'store-lease-not-found') this.#lease = null
      if (!this.isLeader) this.#become(false, this.#leader)
      const problem = messageOf(error)
      if (problem === this.#problem || this.#stopping.signal.aborted) return
      this.#problem = problem
      logger.warn({ problem }, 'this controller cannot take its place in the store')
    }
  }

  async #keepLease(): Promise<void> {
    const { store, clock } = this.#parts
    const options = { timeoutMs: this.#ttlMs / 3, signal: this.#stopping.signal }
    const askedAt = clock.elapsed()
    if (this.#lease === null) {
      const { lease } = await store.grantLease(this.#ttlMs, options)
      this.#lease = lease
    } else await store.keepAlive(this.#lease, options)
    // Counted from before the question: the store's clock of it began no earlier.
    this.#sureUntil = askedAt + this.#ttlMs
  }

  async #register(): Promise<void> {
    const key = controllerKey(this.#own.name)
    const found = await this.#claim(key)
    if (found === this.#value) return
    const other = decode(found)
    throw new MeshError(
      `another controller is called ${this.#own.name}, at ${other?.address ?? 'an unknown address'}`,
      {
        code: 'controller-name-taken',
        hint: 'give each controller a name of its own; after a crash its old place lives for a few seconds',
      },
    )
  }

  async #campaign(): Promise<void> {
    const found = await this.#claim(leaderKey)
    this.#become(found === this.#value, decode(found)?.name ?? '')
  }

  /** Takes a key for this controller if it is nobody's. Answers what stands there. */
  async #claim(key: string): Promise<string> {
    const { store } = this.#parts
    const lease = this.#lease
    if (lease === null) return ''
    const { succeeded, results } = await store.transact(
      {
        compare: [{ kind: 'version', key, equals: 0 }],
        success: [{ kind: 'put', key, value: this.#value, lease }],
        failure: [{ kind: 'get', key }],
      },
      { timeoutMs: this.#ttlMs / 3, signal: this.#stopping.signal },
    )
    const [first] = results
    if (succeeded) return this.#value
    return first?.kind === 'get' ? (first.entry?.value ?? '') : ''
  }

  async #look(): Promise<void> {
    const options = { timeoutMs: this.#ttlMs / 3, signal: this.#stopping.signal }
    const { entries } = await this.#parts.store.list(controllersPrefix, options)
    this.#controllers = entries.flatMap(({ value }) => {
      const place = decode(value)
      return place === null ? [] : [{ name: place.name, address: place.address }]
    })
  }

  #become(leads: boolean, leader: string): void {
    const { logger } = this.#parts
    if (leads !== this.#leads) {
      const [before, after] = this.#leads ? ['leader', 'follower'] : ['follower', 'leader']
      logger.info({ leader }, `controller: ${before} -> ${after}`)
    }
    this.#leads = leads
    this.#leader = leader
  }
}

function decode(text: string): Place | null {
  try {
    const { name, address, run } = JSON.parse(text) as Partial<Place>
    const known = typeof name === 'string' && typeof address === 'string'
    return known && typeof run === 'string' ? { name, address, run } : null
  } catch {
    return null
  }
}
