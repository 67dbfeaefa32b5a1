/**
 * Owns the question which services of this host others may call at its address without the mesh: those
 * that are not locked, whose policy names nobody, and that listen there. It looks when it is told to, and now and then.
 */

import type { Place } from '#agent/kernel/sockets.ts'
import type { Clock, Timer } from '#shared/lifecycle/clock.ts'
import { servedPorts, type Manifest } from '#shared/model/manifest.ts'
import type { ServiceName } from '#shared/model/names.ts'
import type { ServicePolicy } from '#shared/model/policy.ts'
import { openPortsOf, type OpenPorts } from './listening.ts'

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
  /** Where ports are open, as far as it matters for these places. @default asks the kernel */
  readonly openPorts?: (wanted: readonly Place[]) => OpenPorts
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
  /** Those that may be called so, each as it was looked at. */
  #plain = new Map<ServiceName, Manifest>()
  /** Those that were up and unlocked when they were last looked at, and whenever they were asked about since. */
  #seenUp = new WeakSet<Manifest>()
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
   * Looks now, but only at those of whom the answer may be another one: who has come up, or whose
   * manifest has changed; of `some` alone where nobody else can have. It is asked at every change of any
   * service, and the kernel is slow to answer. Answers of whom it is.
   */
  lookIfNews(some: ReadonlySet<ServiceName> | null = null): ReadonlySet<ServiceName> {
    const all = this.#parts.manifests()
    const asked = some === null ? all : all.filter(({ service }) => some.has(service))
    const open = new Set<ServiceName>()
    const news: Manifest[] = []
    for (const manifest of asked) {
      const { service } = manifest
      if (!this.#isUnlocked(manifest)) {
        this.#seenUp.delete(manifest)
        continue
      }
      open.add(service)
      const isUp = this.#parts.isUp(service)
      if (!isUp) this.#seenUp.delete(manifest)
      const isOther = (this.#plain.get(service) ?? manifest) !== manifest
      if (isOther || (isUp && !this.#seenUp.has(manifest))) news.push(manifest)
    }
    const changed = new Set<ServiceName>()
    for (const service of some ?? this.#plain.keys()) {
      if (this.#plain.has(service) && !open.has(service)) changed.add(service)
    }
    for (const service of changed) this.#plain.delete(service)
    const plain = new Set(this.#openAmong(news))
    for (const manifest of news) {
      const { service } = manifest
      if (this.#parts.isUp(service)) this.#seenUp.add(manifest)
      if (plain.has(manifest) !== this.#plain.has(service)) changed.add(service)
      if (plain.has(manifest)) this.#plain.set(service, manifest)
      else this.#plain.delete(service)
    }
    return changed
  }

  /** Looks at all of them now; answers whether anything is not as it was. */
  look(): boolean {
    const open = this.#open()
    const { isUp } = this.#parts
    this.#seenUp = new WeakSet(open.filter(({ service }) => isUp(service)))
    const before = this.#plain
    this.#plain = new Map(this.#openAmong(open).map((manifest) => [manifest.service, manifest]))
    return (
      this.#plain.size !== before.size || ![...this.#plain.keys()].every((one) => before.has(one))
    )
  }

  /** Those of some that listen where others reach them. */
  #openAmong(manifests: readonly Manifest[]): readonly Manifest[] {
    if (manifests.length === 0) return []
    const { address } = this.#settings
    const wanted = manifests.flatMap((one) =>
      servedPorts(one).map(({ port }) => ({ address, port })),
    )
    const found = (this.#parts.openPorts ?? openPortsOf)(wanted)
    return manifests.filter((manifest) =>
      servedPorts(manifest).every(({ port }) => this.#isOpen(found.get(port) ?? [])),
    )
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
