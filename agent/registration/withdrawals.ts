/**
 * Owns what an operator has taken out of rotation on this host by command: single services, or all of
 * them. It is kept on the disk, because a restart or a reboot does not end anybody's maintenance.
 */

import { readFile } from 'node:fs/promises'
import { writeFileAtomic } from '#shared/lifecycle/atomic-file.ts'
import type { Clock } from '#shared/lifecycle/clock.ts'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import { parseServiceName, type ServiceName } from '#shared/model/names.ts'

/** Collaborators. */
export interface WithdrawalsParts {
  readonly clock: Pick<Clock, 'now'>
  readonly logger: Logger
}

/** One thing out of rotation. */
export interface Withdrawal {
  /** Milliseconds since the epoch. */
  readonly sinceMs: number
  /** What the operator said; may be empty. */
  readonly reason: string
}

/** What is withdrawn: a service, or everything this host serves. */
export type WithdrawalTarget =
  { readonly kind: 'host' } | { readonly kind: 'service'; readonly service: ServiceName }

const mostServices = 10_000

/** See the header. */
export class Withdrawals {
  readonly #parts: WithdrawalsParts
  readonly #path: string
  readonly #services = new Map<ServiceName, Withdrawal>()
  readonly #listeners = new Set<() => void>()
  #host: Withdrawal | null = null
  #writing: Promise<void> = Promise.resolve()

  constructor(parts: WithdrawalsParts, settings: { readonly stateDirectory: string }) {
    this.#parts = parts
    this.#path = `${settings.stateDirectory}/withdrawn.json`
  }

  /** The withdrawal of the whole host; null while there is none. */
  get host(): Withdrawal | null {
    return this.#host
  }

  /** Why a service is out of rotation; null while it is not. */
  of(service: ServiceName): Withdrawal | null {
    return this.#host ?? this.#services.get(service) ?? null
  }

  /** The withdrawal of exactly that; null while there is none. */
  ofTarget(target: WithdrawalTarget): Withdrawal | null {
    return target.kind === 'host' ? this.#host : (this.#services.get(target.service) ?? null)
  }

  /** Calls back after every change; answers how to stop that. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  /** Takes over what an earlier run kept. Never rejects: what cannot be read is told and left aside. */
  async load(): Promise<void> {
    try {
      const kept = JSON.parse(await readFile(this.#path, 'utf8')) as Kept
      this.#host = withdrawalOf(kept.host)
      for (const [name, raw] of Object.entries(kept.services ?? {})) {
        const service = parseServiceName(name)
        const withdrawal = withdrawalOf(raw)
        if (service.ok && withdrawal !== null) this.#services.set(service.value, withdrawal)
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
      const fields = { path: this.#path, problem: messageOf(error) }
      this.#parts.logger.error(fields, 'what was taken out of rotation cannot be read')
    }
  }

  /** Takes something out of rotation, or puts it back; resolves when that is on the disk. */
  async set(target: WithdrawalTarget, withdrawn: boolean, reason: string): Promise<void> {
    const { clock, logger } = this.#parts
    const withdrawal = { sinceMs: clock.now(), reason }
    if (target.kind === 'host') this.#host = withdrawn ? (this.#host ?? withdrawal) : null
    else if (!withdrawn) this.#services.delete(target.service)
    else if (!this.#services.has(target.service) && this.#services.size < mostServices) {
      this.#services.set(target.service, withdrawal)
    }
    const what = target.kind === 'host' ? 'this host' : target.service
    const words = withdrawn ? 'rotation: in -> out' : 'rotation: out -> in'
    logger.info({ what, reason }, words)
    for (const listener of this.#listeners) listener()
    this.#writing = this.#writing.then(() => this.#write())
    await this.#writing
  }

  async #write(): Promise<void> {
    const services = Object.fromEntries(this.#services)
    const text = `${JSON.stringify({ host: this.#host, services }, null, 2)}\n`
    await writeFileAtomic(this.#path, text).catch((error: unknown) => {
      const fields = { path: this.#path, problem: messageOf(error) }
      this.#parts.logger.error(fields, 'what is out of rotation is not kept over a restart')
    })
  }
}

interface Kept {
  readonly host?: unknown
  readonly services?: Readonly<Record<string, unknown>>
}

function withdrawalOf(raw: unknown): Withdrawal | null {
  if (typeof raw !== 'object' || raw === null) return null
  const { sinceMs, reason } = raw as Readonly<Record<string, unknown>>
  return typeof sinceMs === 'number' && typeof reason === 'string' ? { sinceMs, reason } : null
}
