/**
 * Owns the writing of a session: carries out the steps of `own-keys.ts` under its lease until the
 * store has what is wanted, one round at a time.
 */

import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { CallOptions, KeyValue, LeaseId, Operation } from './key-value.ts'
import type { OwnKeys, Step } from './own-keys.ts'

/** Who is told what came of writes. */
export interface WriteListener {
  /** An own key was put, deleted or refused. */
  onPublished(): void
  /** The store does not let this host write a key; told once per problem. */
  onRefused(key: string, problem: string): void
}

/** Collaborators. */
export interface OwnWriterParts {
  readonly store: Pick<KeyValue, 'transact'>
  readonly own: OwnKeys
  readonly listener: WriteListener
  /** Something else than a refusal: what was sent last is in doubt. */
  readonly onFailure: (error: unknown) => void
}

/** Below etcd's default limit of 128 operations in a transaction. */
const stepsAtOnce = 100

/** See the header. */
export class OwnWriter {
  readonly #parts: OwnWriterParts
  readonly #options: CallOptions
  #writing: Promise<void> | null = null

  /** @param options - of every call */
  constructor(parts: OwnWriterParts, options: CallOptions) {
    this.#parts = parts
    this.#options = options
  }

  /**
   * Brings the store to what is wanted; never rejects. One call runs at a time, and takes what is wanted
   * later with it.
   */
  write(lease: LeaseId): Promise<void> {
    this.#writing ??= Promise.resolve().then(() => this.#writeAll(lease))
    return this.#writing
  }

  async #writeAll(lease: LeaseId): Promise<void> {
    const { own, onFailure } = this.#parts
    try {
      for (;;) {
        const steps = own.nextSteps(stepsAtOnce)
        if (steps.length === 0) return
        await this.#send(steps, lease)
      }
    } catch (error) {
      onFailure(error)
    } finally {
      this.#writing = null
    }
  }

  /** Sends steps in one transaction; when one of them is denied, each alone. */
  async #send(steps: readonly Step[], lease: LeaseId): Promise<void> {
    const { store, own, listener } = this.#parts
    for (const step of steps) own.sending(step)
    try {
      const success = steps.map((step): Operation =>
        step.kind === 'put' ? { ...step, lease } : step,
      )
      const { revision } = await store.transact({ compare: [], success }, this.#options)
      for (const step of steps) own.done(step, revision)
    } catch (error) {
      if (!(error instanceof MeshError) || error.code !== 'store-denied') throw error
      const [first] = steps
      if (first === undefined) return
      if (steps.length > 1) {
        for (const step of steps) await this.#send([step], lease)
        return
      }
      if (own.refused(first, error.message)) listener.onRefused(first.key, error.message)
    }
    listener.onPublished()
  }
}
