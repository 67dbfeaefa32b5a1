/**
 * Owns what operators have taken out of capture: all of it until they say otherwise, or one service
 * for a time. Kept on the disk, so that neither a restart nor a reboot brings back what was in the
 * way; each change is told to the log as an audit line.
 */

import { readFile } from 'node:fs/promises'
import { writeFileAtomic } from '#shared/lifecycle/atomic-file.ts'
import type { Clock, Timer } from '#shared/lifecycle/clock.ts'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { BypassReport, LiftReport } from '#shared/model/admin-capture.ts'
import { parseServiceName, type ServiceName } from '#shared/model/names.ts'

/** What lifts lean on. */
export interface CaptureLiftsParts {
  readonly clock: Clock
  readonly logger: Logger
}

/** Who wants it, and why. */
export interface LiftWish {
  readonly reason: string
  /** As the operator's tool tells it. */
  readonly by: string
}

const mostBypasses = 1000

/** See the header. */
export class CaptureLifts {
  readonly #parts: CaptureLiftsParts
  readonly #path: string
  readonly #bypasses = new Map<ServiceName, BypassReport>()
  #whole: LiftReport | null = null
  #onChange: () => void = () => {}
  #timer: Timer | null = null
  #writing: Promise<void> = Promise.resolve()

  constructor(parts: CaptureLiftsParts, settings: { readonly stateDirectory: string }) {
    this.#parts = parts
    this.#path = `${settings.stateDirectory}/capture-lifts.json`
  }

  /** Who has switched capture off on this host; null while nobody has. */
  get whole(): LiftReport | null {
    return this.#whole
  }

  /** Services that bypass the mesh now. */
  get bypasses(): readonly BypassReport[] {
    return [...this.#bypasses.values()]
  }

  /** Says who is told of every change. */
  onChange(listener: () => void): void {
    this.#onChange = listener
  }

  /** Takes over what an earlier run kept. Never rejects: what cannot be read is told and left aside. */
  async load(): Promise<void> {
    try {
      const kept = JSON.parse(await readFile(this.#path, 'utf8')) as Kept
      this.#whole = isLift(kept.whole) ? kept.whole : null
      for (const one of Array.isArray(kept.bypasses) ? (kept.bypasses as unknown[]) : []) {
        if (!isBypass(one)) continue
        const service = parseServiceName(one.service)
        if (service.ok) this.#bypasses.set(service.value, one)
      }
      this.#expire()
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
      const fields = { path: this.#path, problem: messageOf(error) }
      this.#parts.logger.error(fields, 'what was taken out of capture cannot be read')
    }
  }

  /** Takes everything out of capture, or puts it back (null); resolves when that is on the disk. */
  async setWhole(wish: LiftWish | null, by: string): Promise<void> {
    const { clock, logger } = this.#parts
    const before = this.#whole
    this.#whole = wish === null ? null : (before ?? { ...wish, sinceMs: clock.now() })
    if ((before === null) !== (wish === null)) {
      const audit = wish === null ? 'capture-on' : 'capture-off'
      logger.warn({ audit, by, reason: wish?.reason ?? '' }, 'capture switched by an operator')
    }
    await this.#changed()
  }

  /** Takes one service out of capture until a moment; false where too many are. */
  async bypass(service: ServiceName, untilMs: number, wish: LiftWish): Promise<boolean> {
    const { clock, logger } = this.#parts
    if (!this.#bypasses.has(service) && this.#bypasses.size >= mostBypasses) return false
    this.#bypasses.set(service, { ...wish, service, sinceMs: clock.now(), untilMs })
    logger.warn({ audit: 'bypass', service, untilMs, ...wish }, 'a service bypasses the mesh')
    await this.#changed()
    return true
  }

  /** Ends a bypass before its time; false where there is none. */
  async end(service: ServiceName, by: string): Promise<boolean> {
    if (!this.#bypasses.delete(service)) return false
    this.#parts.logger.warn({ audit: 'bypass-ended', service, by }, 'a bypass has ended')
    await this.#changed()
    return true
  }

  /** Follows the clock no more. */
  async stop(): Promise<void> {
    this.#timer?.stop()
    await this.#writing
  }

  async #changed(): Promise<void> {
    this.#expire()
    this.#onChange()
    this.#writing = this.#writing.then(() => this.#write())
    await this.#writing
  }

  /** Ends what is over, and wakes when the next one is. */
  #expire(): void {
    const { clock, logger } = this.#parts
    const now = clock.now()
    for (const [service, { untilMs }] of this.#bypasses) {
      if (untilMs > now) continue
      this.#bypasses.delete(service)
      logger.warn({ audit: 'bypass-ended', service, by: 'its time' }, 'a bypass has ended')
    }
    this.#timer?.stop()
    const next = Math.min(...[...this.#bypasses.values()].map(({ untilMs }) => untilMs))
    if (!Number.isFinite(next)) return
    // A wall clock may jump: look again now and then.
    const ms = Math.min(Math.max(next - now, 10), 30_000)
    this.#timer = clock.after(ms, () => {
      const before = this.#bypasses.size
      this.#expire()
      if (this.#bypasses.size !== before) void this.#changed()
    })
  }

  async #write(): Promise<void> {
    const text = `${JSON.stringify({ whole: this.#whole, bypasses: this.bypasses }, null, 2)}\n`
    await writeFileAtomic(this.#path, text).catch((error: unknown) => {
      const fields = { path: this.#path, problem: messageOf(error) }
      this.#parts.logger.error(fields, 'what is out of capture is not kept over a restart')
    })
  }
}

interface Kept {
  readonly whole?: unknown
  readonly bypasses?: unknown
}

function isLift(raw: unknown): raw is LiftReport {
  if (typeof raw !== 'object' || raw === null) return false
  const { sinceMs, reason, by } = raw as Readonly<Record<string, unknown>>
  return typeof sinceMs === 'number' && typeof reason === 'string' && typeof by === 'string'
}

function isBypass(raw: unknown): raw is BypassReport {
  if (!isLift(raw)) return false
  const { service, untilMs } = raw as unknown as Readonly<Record<string, unknown>>
  return typeof service === 'string' && typeof untilMs === 'number'
}
