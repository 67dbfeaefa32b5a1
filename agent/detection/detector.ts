/**
 * Owns what is known of how the services of this host speak, port by port. Each is asked once it is up, and again
 * after it was down or has moved; what is known stays until there is something newer. It publishes
 * nothing.
 */

import type { Clock } from '#agent/platform.ts'
import { sleep } from '#shared/lifecycle/clock.ts'
import type { Logger } from '#shared/logging/logger.ts'
import { carriageOf, carriageOfDeclared, mismatchOf, type Finding } from '#shared/model/finding.ts'
import { servedPorts, type Manifest, type ServedPort } from '#shared/model/manifest.ts'
import type { PortName, ServiceName } from '#shared/model/names.ts'
import type { Protocol } from '#shared/model/records.ts'
import { targetName, type TargetName } from '#shared/model/target.ts'
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

/** A port and where it is. */
interface Served extends ServedPort {
  readonly service: ServiceName
  readonly address: string
}

/** What is known of one. */
interface Known {
  /** The newest; null before the first. */
  finding: Finding | null
  /** Where it was found, or is being asked; empty when it has to be asked anew. */
  place: string
  wasAsked: boolean
  asking: AbortController | null
}

/** A service that said nothing is asked again after these, milliseconds. */
const pausesMs = [2000, 8000, 30_000] as const

/** See the header. */
export class Detector {
  readonly #parts: DetectorParts
  readonly #ask: Ask
  readonly #known = new Map<TargetName, Known>()
  readonly #listeners = new Set<(service: ServiceName) => void>()
  readonly #running = new Set<Promise<void>>()
  #served: ReadonlyMap<TargetName, Served> = new Map()
  #ports: ReadonlyMap<ServiceName, readonly Served[]> = new Map()

  constructor(parts: DetectorParts) {
    this.#parts = parts
    this.#ask = parts.ask ?? askOver(parts)
  }

  /** What was found of a service, or of its port of that name; null before it was asked. */
  findingOf(service: ServiceName, portName: PortName | null = null): Finding | null {
    return this.#known.get(targetName(service, portName))?.finding ?? null
  }

  /** How a port is carried; null while that is not known. A declared protocol settles it. */
  protocolOf(service: ServiceName, portName: PortName | null = null): Protocol | null {
    const served = this.#served.get(targetName(service, portName))
    if (served === undefined) return null
    if (served.declared !== null) return carriageOfDeclared(served.declared)
    const finding = this.findingOf(service, portName)
    return finding === null ? null : carriageOf(finding)
  }

  /** Why what a service declares cannot be so; empty where it can. */
  mismatchOf(service: ServiceName): string {
    const words = (this.#ports.get(service) ?? []).map((served) => this.#mismatch(served))
    return words.filter((one) => one !== '').join('; ')
  }

  /** Whether every port of a service was asked once, unless its protocol is declared. */
  hasAsked(service: ServiceName): boolean {
    return (this.#ports.get(service) ?? []).every(
      ({ name, declared }) =>
        declared !== null || this.#known.get(targetName(service, name))?.wasAsked === true,
    )
  }

  #mismatch({ service, name, declared }: Served): string {
    const finding = this.findingOf(service, name)
    const words = declared === null || finding === null ? '' : mismatchOf(declared, finding)
    return words === '' || name === null ? words : `${name}: ${words}`
  }

  /** Calls back after something was found of a service; answers how to stop that. */
  onChange(listener: (service: ServiceName) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  /** Takes over the manifests in force. */
  apply(manifests: readonly Manifest[]): void {
    this.#served = new Map(
      manifests.flatMap((manifest) =>
        servedPorts(manifest).map((served) => {
          const { service, address } = manifest
          return [targetName(service, served.name), { ...served, service, address }] as const
        }),
      ),
    )
    this.#ports = Map.groupBy(this.#served.values(), ({ service }) => service)
    for (const [target, known] of this.#known) {
      if (this.#served.has(target)) continue
      known.asking?.abort()
      this.#known.delete(target)
    }
    this.refresh()
  }

  /** Looks who is up, and asks those of whom nothing is known there; of one service, or of all. */
  refresh(service: ServiceName | null = null): void {
    const some = service === null ? this.#served.values() : (this.#ports.get(service) ?? [])
    for (const served of some) {
      const target = targetName(served.service, served.name)
      let known = this.#known.get(target)
      if (known === undefined) {
        this.#known.set(
          target,
          (known = { finding: null, place: '', wasAsked: false, asking: null }),
        )
      }
      const place = `${served.address} ${served.port}`
      if (!this.#parts.isUp(served.service)) {
        // Whoever comes back may be another program.
        if (known.asking === null) known.place = ''
      } else if (known.place !== place) {
        known.asking?.abort()
        known.place = place
        known.asking = new AbortController()
        const running = this.#find(served, known, known.asking.signal)
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

  async #find(served: Served, known: Known, signal: AbortSignal): Promise<void> {
    for (const pauseMs of [...pausesMs, 0]) {
      const finding = await this.#ask(served, signal)
      if (signal.aborted) return
      const isFirst = !known.wasAsked
      known.wasAsked = true
      if (finding !== null) this.#take(served, known, finding)
      else if (isFirst) this.#tell(served.service)
      if (finding !== null && finding.speech !== 'silent') break
      await sleep(this.#parts.clock, pauseMs, signal)
    }
    if (signal.aborted) return
    known.asking = null
    if (known.finding === null) known.place = ''
    this.refresh(served.service)
  }

  #take(served: Served, known: Known, finding: Finding): void {
    if (JSON.stringify(known.finding) === JSON.stringify(finding)) return
    known.finding = finding
    const { logger } = this.#parts
    const { service, port } = served
    const mismatch = this.#mismatch(served)
    if (mismatch === '') logger.info({ service, port, ...finding }, 'service asked how it speaks')
    else logger.warn({ service, port, ...finding, mismatch }, 'service asked how it speaks')
    this.#tell(service)
  }

  #tell(service: ServiceName): void {
    for (const listener of this.#listeners) listener(service)
  }
}
