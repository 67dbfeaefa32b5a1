/**
 * Owns the numbers of virtual IPs and callers on the disk, so that they stay what they are through
 * restarts. A damaged or missing file costs little: a name's hash mostly finds the same number.
 */

import { readFile } from 'node:fs/promises'
import { writeFileAtomic } from '#shared/lifecycle/atomic-file.ts'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { Grant } from './index-book.ts'

/** What is kept. */
export interface KeptGrants {
  readonly virtual: readonly Grant[]
  readonly callers: readonly Grant[]
}

/** See the header. */
export class GrantsFile {
  readonly #path: string
  readonly #logger: Logger
  #writing: Promise<void> = Promise.resolve()
  #shown = ''

  constructor(parts: { readonly logger: Logger }, settings: { readonly stateDirectory: string }) {
    this.#logger = parts.logger
    this.#path = `${settings.stateDirectory}/capture.json`
  }

  /** What an earlier run kept. */
  async load(): Promise<KeptGrants> {
    const text = await readFile(this.#path, 'utf8').catch(() => '')
    try {
      const kept = JSON.parse(text) as Partial<KeptGrants>
      return { virtual: grantsIn(kept.virtual), callers: grantsIn(kept.callers) }
    } catch {
      return { virtual: [], callers: [] }
    }
  }

  /** Keeps these; what has not changed, by the day, is not written. */
  keep(grants: KeptGrants): void {
    const text = JSON.stringify({ virtual: byDay(grants.virtual), callers: byDay(grants.callers) })
    if (text === this.#shown) return
    this.#shown = text
    this.#writing = this.#writing
      .then(() => writeFileAtomic(this.#path, `${text}\n`))
      .catch((error: unknown) => {
        this.#shown = ''
        this.#logger.warn({ problem: messageOf(error) }, 'cannot keep the numbers of virtual IPs')
      })
  }

  /** Resolves when everything is written. */
  settled(): Promise<void> {
    return this.#writing
  }
}

const dayMs = 86_400_000

function byDay(grants: readonly Grant[]): readonly Grant[] {
  return grants.map((one) => ({ ...one, seenMs: Math.ceil(one.seenMs / dayMs) * dayMs }))
}

function grantsIn(value: unknown): readonly Grant[] {
  if (!Array.isArray(value)) return []
  return (value as readonly (Partial<Grant> | null)[]).flatMap((one) => {
    const { name, index, seenMs } = one ?? {}
    return typeof name === 'string' && Number.isInteger(index) && typeof seenMs === 'number'
      ? [{ name, index: index as number, seenMs }]
      : []
  })
}
