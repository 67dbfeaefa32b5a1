/**
 * Owns what is known of how the services of this host speak. Each is asked once it is up, and again
 * after it was down or has moved; what is known stays until there is something newer. It publishes
 * nothing.
 */

import type { Clock } from '#agent/platform.ts'
import { sleep } from '#shared/lifecycle/clock.ts'
import type { Logger } from '#shared/logging/logger.ts'
import { carriageOf, mismatchOf, type Finding } from '#shared/model/finding.ts'
import type { Manifest } from '#shared/model/manifest.ts'
import type { ServiceName } from '#shared/model/names.ts'
import type { Protocol } from '#shared/model/records.ts'
import { askOver, type Ask } from './ask.ts'

/** Collaborators of a detector. */
export interface DetectorParts {
  readonly clock: Clock
  readonly logger: Logger
  /** Whether a service may be asked now: it is up. */
  readonly isUp: (service: ServiceName) => boolean
  /** @default asks over the network */
  readonly ask?: Ask
}

/** One service. */
interface Known {
  /** The newest; null before the first. */
  finding: Finding | null
  /** Where it was found, or is being asked; empty when it has to be asked anew. */
  place: string
  asking: AbortController | null
}

/** A service that said nothing is asked again after these, milliseconds. */
const pausesMs = [2000, 8000, 30_000] as const

/** See the header. */
export class Detector {
  readonly #parts: DetectorParts
  readonly #ask: Ask
  readonly #known = new Map<ServiceName, Known>()
  readonly #listeners = new Set<() => void>()
  readonly #running = new Set<Promise<void>>()
  #manifests: ReadonlyMap<ServiceName, Manifest> = new Map()

  constructor(parts: DetectorParts) {
    this.#parts = parts
    this.#ask = parts.ask ?? askOver(parts)
  }

  /** What was found of a service; null before it was asked. */
  findingOf(service: ServiceName): Finding | null {
    return this.#known.get(service)?.finding ?? null
  }

  /** How a service is carried; null while that is not known. A declared protocol settles it. */
  protocolOf(service: ServiceName): Protocol | null {
    const manifest = this.#manifests.get(service)
    if (manifest === undefined || manifest.declared) return manifest?.protocol ?? null
    const finding = this.findingOf(service)
    return finding === null ? null : carriageOf(finding)
  }

  /** Why what a service declares cannot be so; empty where it can. */
  mismatchOf(service: ServiceName): string {
    const manifest = this.#manifests.get(service)
    const finding = this.findingOf(service)
    if (manifest?.declared !== true || finding === null) return ''
    return mismatchOf(manifest.protocol, finding)
  }

  /** Calls back after something was found; answers how to stop that. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  /** Takes over the manifests in force. */
  apply(manifests: readonly Manifest[]): void {
    const served = manifests.filter(({ port }) => port !== undefined)
    this.#manifests = new Map(served.map((manifest) => [manifest.service, manifest]))
    for (const [service, known] of this.#known) {
      if (this.#manifests.has(service)) continue
      known.asking?.abort()
      this.#known.delete(service)
    }
    this.refresh()
  }

  /** Looks who is up, and asks those of whom nothing is known there. */
  refresh(): void {
    for (const [service, { address, port = 0 }] of this.#manifests) {
      let known = this.#known.get(service)
      if (known === undefined) {
        this.#known.set(service, (known = { finding: null, place: '', asking: null }))
      }
      const place = `${address} ${port}`
      if (!this.#parts.isUp(service)) {
        // Whoever comes back may be another program.
        if (known.asking === null) known.place = ''
      } else if (known.place !== place) {
        known.asking?.abort()
        known.place = place
        known.asking = new AbortController()
        const running = this.#find(service, known, { address, port }, known.asking.signal)
        const ended = running.finally(() => this.#running.delete(ended))
        this.#running.add(ended)
      }
    }
  }

  /** Ends all asking. */
  async stop(): Promise<void> {
    this.apply([])
    await Promise.all(this.#running)
  }

  async #find(
    service: ServiceName,
    known: Known,
    place: { readonly address: string; readonly port: number },
    signal: AbortSignal,
  ): Promise<void> {
    for (const pauseMs of [...pausesMs, 0]) {
      const finding = await this.#ask(place, signal)
      if (signal.aborted) return
      if (finding !== null) this.#take(service, known, finding)
      if (finding !== null && finding.speech !== 'silent') break
      await sleep(this.#parts.clock, pauseMs, signal)
    }
    if (signal.aborted) return
    known.asking = null
    if (known.finding === null) known.place = ''
    this.refresh()
  }

  #take(service: ServiceName, known: Known, finding: Finding): void {
    if (JSON.stringify(known.finding) === JSON.stringify(finding)) return
    known.finding = finding
    const { logger } = this.#parts
    const mismatch = this.mismatchOf(service)
    if (mismatch === '') logger.info({ service, ...finding }, 'service asked how it speaks')
    else logger.warn({ service, ...finding, mismatch }, 'service asked how it speaks')
    for (const listener of this.#listeners) listener()
  }
}
