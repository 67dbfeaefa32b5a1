/**
 * Owns what is told of signed records that a controller finds in the store and does not believe: a
 * log line for each text, once, and counts by kind of record and reason.
 */

import { createHash } from 'node:crypto'
import type { Logger } from '#shared/logging/logger.ts'
import { controllerMetrics } from '#shared/metrics/names.ts'
import type { MetricSeries } from '#shared/metrics/registry.ts'
import type { RecordRefusal } from '#shared/pki/signed-record.ts'

/** Kinds of signed records. */
export type RecordKind = 'bundle' | 'bans' | 'policies' | 'host' | 'request'

const mostTold = 1000

/** See the header. */
export class RefusedRecords {
  readonly #logger: Logger
  readonly #told = new Set<string>()
  readonly #counts = new Map<string, MetricSeries>()

  constructor(parts: { readonly logger: Logger }) {
    this.#logger = parts.logger
  }

  /** Told of a text under a key that does not count. The same text again is no news. */
  add(
    kind: RecordKind,
    key: string,
    refused: { reason: RecordRefusal; problem: string },
    text: string,
  ): void {
    const { reason, problem } = refused
    // Texts may be long, and a store full of them must not fill the memory.
    const once = createHash('sha256').update(`${key}\n${text}`).digest('base64')
    if (this.#told.has(once)) return
    if (this.#told.size >= mostTold) this.#told.clear()
    this.#told.add(once)
    const labels = { record: kind, reason }
    const name = `${kind} ${reason}`
    const value = (this.#counts.get(name)?.value ?? 0) + 1
    this.#counts.set(name, { metric: controllerMetrics.recordsRefused.name, labels, value })
    this.#logger.warn(
      { key, reason, problem },
      'a record in the store was refused; what was known stays in force',
    )
  }

  get series(): readonly MetricSeries[] {
    return [...this.#counts.values()]
  }
}
