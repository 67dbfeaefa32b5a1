/**
 * Owns the question which services of this host others may call at its address without the mesh: those
 * that are not locked, whose policy names nobody, and that listen there. It looks when it is told to, and now and then.
 */

import type { Clock, Timer } from '#shared/lifecycle/clock.ts'
import { servedPorts, type Manifest } from '#shared/model/manifest.ts'
import type { ServiceName } from '#shared/model/names.ts'
import type { ServicePolicy } from '#shared/model/policy.ts'
import { openPorts, type OpenPorts } from './listening.ts'

/** What it leans on. */
export interface PlainReachParts {
  readonly clock: Clock
  /** The manifests in force. */
  readonly manifests: () => readonly Manifest[]
  readonly policyOf: (service: ServiceName) => Pick<ServicePolicy, 'strict'>
  /** Whether a service passes its checks, and so listens. */
  readonly isUp: (service: ServiceName) => boolean
  /** Told of every change that a look finds by itself. */
  readonly onChange: () => void
  /** Where ports are open. @default asks the kernel */
  readonly openPorts?: () => OpenPorts
}

/** Settings. */
export interface PlainReachSettings {
  /** Where other hosts reach this one. */
  readonly address: string
  /** From one look to the next. @default 5000 */
  readonly everyMs?: number
}

/** See the header. */
export class PlainReach {
  readonly #parts: PlainReachParts
  readonly #settings: PlainReachSettings
  #plain: ReadonlySet<ServiceName> = new Set()
  /** Those that were up when they were last looked at, and have been since. */
  #seenUp = new Set<Manifest>()
  #timer: Timer | null = null

  constructor(parts: PlainReachParts, settings: PlainReachSettings) {
    this.#parts = parts
    this.#settings = settings
  }

  /** Whether a service may be called so: it is not locked now, and listens there as last seen. */
  has(manifest: Manifest): boolean {
    return this.#plain.has(manifest.service) && this.#isUnlocked(manifest)
  }

  /** Looks from now on. */
  start(): void {
    this.#timer ??= this.#parts.clock.every(this.#settings.everyMs ?? 5000, () => {
      if (this.look()) this.#parts.onChange()
    })
  }

  stop(): void {
    this.#timer?.stop()
  }

  /**
   * Looks now, but only if the answer may be another one: a service has come up, or is locked. It is
   * asked at every change of any service, and the kernel is slow to answer.
   */
  lookIfNews(): void {
    let plain = 0
    let isNews = false
    for (const manifest of this.#open()) {
      if (this.#plain.has(manifest.service)) plain += 1
      if (!this.#parts.isUp(manifest.service)) this.#seenUp.delete(manifest)
      else if (!this.#seenUp.has(manifest)) isNews = true
    }
    if (isNews || plain !== this.#plain.size) this.look()
  }

  /** Looks now; answers whether anything is not as it was. */
  look(): boolean {
    const open = this.#open()
    const { isUp } = this.#parts
    this.#seenUp = new Set(open.filter(({ service }) => isUp(service)))
    const found = open.length === 0 ? null : (this.#parts.openPorts ?? openPorts)()
    const plain = open.filter((manifest) =>
      servedPorts(manifest).every(({ port }) => this.#isOpen(found?.get(port) ?? [])),
    )
    const before = this.#plain
    this.#plain = new Set(plain.map(({ service }) => service))
    return this.#plain.size !== before.size || !this.#plain.isSubsetOf(before)
  }

  #open(): readonly Manifest[] {
    return this.#parts.manifests().filter((one) => this.#isUnlocked(one))
  }

  /** A policy that names callers holds whatever becomes of the port: in plain nobody is known. */
  #isUnlocked({ service, port, inbound }: Manifest): boolean {
    return port !== undefined && inbound !== 'strict' && !this.#parts.policyOf(service).strict
  }

  #isOpen(addresses: readonly string[]): boolean {
    const { address } = this.#settings
    return addresses.some(
      (one) => one === address || one === '::' || (one === '0.0.0.0' && !address.includes(':')),
    )
  }
}
