/**
 * Owns the manifests as the rest of the agent takes them: those whose service could be reached past
 * its policy are rejected, whatever the file itself is worth. It looks at where programs listen now
 * and then, and when it is asked to.
 */

import { isDeepStrictEqual } from 'node:util'
import type { Verdict } from '#agent/manifests/receipt.ts'
import type { ManifestWatcher } from '#agent/manifests/watcher.ts'
import type { Clock, Timer } from '#shared/lifecycle/clock.ts'
import type { Logger } from '#shared/logging/logger.ts'
import { servedPorts, type Manifest } from '#shared/model/manifest.ts'
import type { ServiceName } from '#shared/model/names.ts'
import type { Policy, ServicePolicy } from '#shared/model/policy.ts'
import type { Problem } from '#shared/schema/problem.ts'
import { openPolicy, servicePolicyOf } from '#shared/policy/service-policy.ts'
import { openPorts, type OpenPorts } from './listening.ts'
import { protectionOf, type InboundLock, type Protection } from './protection.ts'

/** Collaborators of protected manifests. */
export interface ProtectedManifestsParts {
  readonly clock: Clock
  readonly logger: Logger
  readonly watcher: Pick<ManifestWatcher, 'verdicts' | 'manifests' | 'directoryFault' | 'onChange'>
  readonly files: { readonly policies: readonly Policy[]; onChange(listener: () => void): void }
  readonly lock: InboundLock
  /** Where ports are open. @default asks the kernel */
  readonly openPorts?: () => OpenPorts
}

const notNeeded: Protection = { kind: 'not-needed' }
const lookEveryMs = 2000

/** See the header. */
export class ProtectedManifests {
  readonly #parts: ProtectedManifestsParts
  readonly #listeners = new Set<() => void>()
  #policies: ReadonlyMap<ServiceName, ServicePolicy> = new Map()
  #protections: ReadonlyMap<ServiceName, Protection> = new Map()
  #manifests: readonly Manifest[] = []
  #verdicts: readonly Verdict[] = []
  /** What became of each verdict, and for want of which protection. */
  #made = new WeakMap<Verdict, { readonly lack: Problem | null; readonly verdict: Verdict }>()
  #shown = ''
  #timer: Timer | null = null

  constructor(parts: ProtectedManifestsParts) {
    this.#parts = parts
  }

  /** What is in force. */
  get manifests(): readonly Manifest[] {
    return this.#manifests
  }

  /** The verdict on every file. */
  get verdicts(): readonly Verdict[] {
    return this.#verdicts
  }

  get directoryFault(): ManifestWatcher['directoryFault'] {
    return this.#parts.watcher.directoryFault
  }

  /** Also those that are not in force for want of protection. */
  get known(): readonly Manifest[] {
    return this.#parts.watcher.manifests
  }

  /** What is said of a service, whether or not it is in force. */
  policyOf(service: ServiceName): ServicePolicy {
    return this.#policies.get(service) ?? openPolicy
  }

  /** How far a service of this host is protected. */
  of(service: ServiceName): Protection {
    return this.#protections.get(service) ?? notNeeded
  }

  /** Calls back after every change of verdicts. */
  onChange(listener: () => void): void {
    this.#listeners.add(listener)
  }

  /** Begins to follow manifests, policies and ports. */
  start(): void {
    const { clock, watcher, files } = this.#parts
    watcher.onChange(() => this.#judge(true))
    files.onChange(() => this.#judge(true))
    this.#timer = clock.every(lookEveryMs, () => this.refresh())
  }

  stop(): void {
    this.#timer?.stop()
  }

  /** Looks at the ports again. */
  refresh(): void {
    this.#judge(false)
  }

  #judge(isNews: boolean): void {
    const { watcher, lock, logger } = this.#parts
    if (isNews) this.#policies = this.#said()
    let ports: OpenPorts | null = null
    const protections = new Map<ServiceName, Protection>()
    for (const manifest of watcher.manifests) {
      const { service, port } = manifest
      const policy = this.policyOf(service)
      if (!policy.strict || port === undefined) continue
      ports ??= (this.#parts.openPorts ?? openPorts)()
      const open = ports
      const places = servedPorts(manifest).flatMap(({ port: served }) =>
        (open.get(served) ?? []).map((address) => `${address}:${served}`),
      )
      const facts = { isLocked: lock.isInForce(service), places }
      protections.set(service, protectionOf(manifest, policy, facts))
    }
    const shown = JSON.stringify([...protections])
    if (!isNews && shown === this.#shown) return
    for (const [service, { kind }] of protections) {
      const before = this.of(service).kind
      if (before !== kind) logger.info({ service }, `protection: ${before} -> ${kind}`)
    }
    this.#shown = shown
    this.#protections = protections
    this.#verdicts = watcher.verdicts.map((verdict) => this.#protected(verdict))
    this.#manifests = this.#verdicts.flatMap(({ manifest }) => manifest ?? [])
    for (const listener of this.#listeners) listener()
  }

  #said(): ReadonlyMap<ServiceName, ServicePolicy> {
    const { policies } = this.#parts.files
    return new Map(
      this.known.map(({ service, policy: own, ports }) => [
        service,
        servicePolicyOf(service, own === undefined ? policies : [own, ...policies], ports),
      ]),
    )
  }

  /** The same object for as long as nothing changes. */
  #protected(judged: Verdict): Verdict {
    const { manifest, problems } = judged
    const protection = manifest === null ? notNeeded : this.of(manifest.service)
    const lack = protection.kind === 'unprotected' ? protection.problem : null
    const made = this.#made.get(judged)
    if (made !== undefined && isDeepStrictEqual(made.lack, lack)) return made.verdict
    const now = made === undefined ? judged : { ...judged, judgedAtMs: this.#parts.clock.now() }
    const verdict: Verdict =
      lack === null
        ? now
        : { ...now, verdict: 'rejected', problems: [...problems, lack], manifest: null }
    this.#made.set(judged, { lack, verdict })
    return verdict
  }
}
