/**
 * Owns one session with the store: list, watch from there, grant a lease, put everything this host
 * owns, keep it alive. Any trouble ends it, and it never heals itself: `link.ts` starts the next.
 */

import type { Clock, Random } from '#shared/lifecycle/clock.ts'
import { sleep } from '#shared/lifecycle/clock.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { CallOptions, KeyValue, LeaseId, Operation, StoreEvent, Watch } from './key-value.ts'
import type { OwnKeys, Step } from './own-keys.ts'
import type { StoreChange, ViewKeeper } from './view.ts'

/** Who is told how a session goes. */
export interface SessionListener {
  /** The view changed. */
  onChange(change: StoreChange): void
  /** Listed, watching, and every own key is in the store under this session's lease. */
  onReady(): void
  /** An own key was put, deleted or refused. */
  onPublished(): void
  /** The store does not let this host write a key; told once per problem. */
  onRefused(key: string, problem: string): void
}

/** What a session asks of a store. */
export type SessionStore = Pick<
  KeyValue,
  'list' | 'watch' | 'grantLease' | 'keepAlive' | 'transact' | 'revokeLease'
>

/** Collaborators of a session. */
export interface SessionParts {
  readonly store: SessionStore
  readonly view: ViewKeeper
  readonly own: OwnKeys
  readonly clock: Clock
  readonly random: Random
  readonly listener: SessionListener
}

/** Settings of a session. */
export interface SessionSettings {
  readonly prefix: string
  /** How long own keys outlive this host's silence. */
  readonly leaseTtlMs: number
  /** Longest wait for each answer but that to a renewal. @default the client's own */
  readonly patienceMs?: number
}

/** Below etcd's default limit of 128 operations in a transaction. */
const stepsAtOnce = 100

/** See the header. */
export class Session {
  readonly #parts: SessionParts
  readonly #settings: SessionSettings
  readonly #ending = new AbortController()
  #reason: Error | null = null
  #watch: Watch | null = null
  #lease: LeaseId | null = null
  #heard = true
  #writing: Promise<void> | null = null

  constructor(parts: SessionParts, settings: SessionSettings) {
    this.#parts = parts
    this.#settings = settings
  }

  /** Runs until something ends it and answers what that was; never rejects. */
  async run(): Promise<Error> {
    const { store, own, view, listener } = this.#parts
    const { signal } = this.#ending
    const { prefix, leaseTtlMs } = this.#settings
    const options = this.#options()
    try {
      const listing = await store.list(prefix, options)
      signal.throwIfAborted()
      listener.onChange(view.replace(listing))
      this.#watch = store.watch(prefix, listing.revision + 1, {
        onEvents: (events) => this.#onEvents(events),
        onProgress: () => {
          this.#heard = true
        },
        onEnd: (error) => this.end(error),
      })
      const granted = await store.grantLease(leaseTtlMs, options)
      this.#lease = granted.lease
      own.restart()
      await this.#write()
      if (!signal.aborted) listener.onReady()
      await this.#keepAlive(granted.lease)
    } catch (error) {
      this.end(error)
    } finally {
      this.#watch?.cancel()
    }
    return this.#reason ?? new Error('the session ended')
  }

  /** Ends the session; the first reason counts. */
  end(reason: unknown): void {
    this.#reason ??= reason instanceof Error ? reason : new Error(messageOf(reason))
    this.#ending.abort(this.#reason)
  }

  /** What this host wants in the store changed. */
  publish(): void {
    if (this.#lease !== null && !this.#ending.signal.aborted) void this.#write()
  }

  /** Withdraws every own key, which nobody wants any more, and gives the lease back. */
  async withdraw(): Promise<void> {
    const lease = this.#lease
    if (lease === null) return
    await this.#write()
    if (!this.#ending.signal.aborted) await this.#parts.store.revokeLease(lease)
  }

  /** Renews the lease, and asks the watch for a sign of life each time. */
  async #keepAlive(lease: LeaseId): Promise<void> {
    const { clock, random, own } = this.#parts
    const { leaseTtlMs } = this.#settings
    const { signal } = this.#ending
    let retryAt = clock.elapsed() + leaseTtlMs
    for (;;) {
      await sleep(clock, (leaseTtlMs / 3) * (0.8 + 0.2 * random.fraction()), signal)
      signal.throwIfAborted()
      if (!this.#heard) {
        throw new MeshError('store: the watch has gone silent', {
          code: 'store-timeout',
          retry: true,
        })
      }
      this.#heard = false
      this.#watch?.requestProgress()
      await this.#renew(lease)
      if (clock.elapsed() < retryAt) continue
      retryAt = clock.elapsed() + leaseTtlMs
      own.retryRefused()
      await this.#write()
    }
  }

  /** A server that is late and yet tells of changes is busy, not gone: it is asked once more. */
  async #renew(lease: LeaseId): Promise<void> {
    const { store } = this.#parts
    const options = { signal: this.#ending.signal, timeoutMs: this.#settings.leaseTtlMs / 5 }
    try {
      await store.keepAlive(lease, options)
    } catch (error) {
      const isLate = error instanceof MeshError && error.code === 'store-timeout'
      if (!isLate || !this.#heard) throw error
      await store.keepAlive(lease, options)
    }
  }

  #onEvents(events: readonly StoreEvent[]): void {
    this.#heard = true
    if (this.#ending.signal.aborted) return
    const { view, own, listener } = this.#parts
    let again = false
    for (const event of events) {
      if (event.kind === 'delete' && event.modRevision > view.revision) {
        again = own.lost(event.key) || again
      }
    }
    const change = view.apply(events)
    if (change !== null) listener.onChange(change)
    if (again) this.publish()
  }

  /** Brings the store to what is wanted. One runs at a time; it also takes what is wanted later. */
  #write(): Promise<void> {
    this.#writing ??= Promise.resolve().then(() => this.#writeAll())
    return this.#writing
  }

  async #writeAll(): Promise<void> {
    const { own } = this.#parts
    try {
      for (;;) {
        const steps = own.nextSteps(stepsAtOnce)
        if (steps.length === 0) return
        await this.#send(steps)
      }
    } catch (error) {
      this.end(error)
    } finally {
      this.#writing = null
    }
  }

  /** Sends steps in one transaction; when one of them is denied, each alone. */
  async #send(steps: readonly Step[]): Promise<void> {
    const { store, own, listener } = this.#parts
    for (const step of steps) own.sending(step)
    try {
      const { revision } = await store.transact(
        { compare: [], success: steps.map((step) => this.#operation(step)) },
        this.#options(),
      )
      for (const step of steps) own.done(step, revision)
    } catch (error) {
      if (!(error instanceof MeshError) || error.code !== 'store-denied') throw error
      const [first] = steps
      if (first === undefined) return
      if (steps.length > 1) {
        for (const step of steps) await this.#send([step])
        return
      }
      if (own.refused(first, error.message)) listener.onRefused(first.key, error.message)
    }
    listener.onPublished()
  }

  #options(): CallOptions {
    const { signal } = this.#ending
    const { patienceMs } = this.#settings
    return patienceMs === undefined ? { signal } : { signal, timeoutMs: patienceMs }
  }

  #operation(step: Step): Operation {
    switch (step.kind) {
      case 'put':
        return this.#lease === null ? step : { ...step, lease: this.#lease }
      case 'delete':
        return step
    }
  }
}
