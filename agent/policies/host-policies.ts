/**
 * Owns policy on this host, put together: the files, the policies of the mesh, the manifests that may count under them, and
 * what holds for each service. Each part has a file of its own; nothing is decided here.
 */

import type { DirectoryMirrorParts } from '#agent/manifests/directory-mirror.ts'
import type { ManifestWatcher } from '#agent/manifests/watcher.ts'
import type { Clock } from '#shared/lifecycle/clock.ts'
import type { PoliciesReport } from '#shared/model/admin-policies.ts'
import type { ServiceName, TrustDomain } from '#shared/model/names.ts'
import type { Policy, ServicePolicy } from '#shared/model/policy.ts'
import type { LocalInstance } from '#shared/model/snapshot.ts'
import { AllPolicies } from './all-policies.ts'
import { policiesReport } from './policies-report.ts'
import { PolicyBook } from './policy-book.ts'
import { PolicyFiles } from './policy-files.ts'
import { ProtectedManifests } from './protected-manifests.ts'
import type { InboundLock } from './protection.ts'

/** What policies lean on. */
export interface HostPoliciesParts extends DirectoryMirrorParts {
  readonly clock: Clock
  readonly watcher: ManifestWatcher
  readonly lock: InboundLock
}

/** Settings of policies. */
export interface HostPoliciesSettings {
  readonly directory: string
  readonly stateDirectory: string
}

/** See the header. */
export class HostPolicies {
  readonly files: PolicyFiles
  /** The manifests of the watcher that count. */
  readonly manifests: ProtectedManifests
  readonly #book = new PolicyBook()
  readonly #settings: HostPoliciesSettings
  readonly #all: AllPolicies

  constructor(parts: HostPoliciesParts, settings: HostPoliciesSettings) {
    this.#settings = settings
    this.files = new PolicyFiles(parts, settings)
    this.#all = new AllPolicies({ files: this.files })
    this.manifests = new ProtectedManifests({ ...parts, files: this.#all })
  }

  /** By service; the same object until one changes. */
  get policies(): Readonly<Record<string, ServicePolicy>> {
    return this.#book.policies
  }

  /** What holds for one service. */
  of(service: ServiceName): ServicePolicy {
    return this.#book.of(service)
  }

  /** Services whose policy names callers, also those that wait for their lock before they count. */
  get strict(): ReadonlySet<ServiceName> {
    const { known } = this.manifests
    const strict = known.filter(({ service }) => this.manifests.policyOf(service).strict)
    return new Set(strict.map(({ service }) => service))
  }

  /** Takes over the policies that hold on every host. */
  setMesh(policies: readonly Policy[]): void {
    this.#all.setMesh(policies)
  }

  /** Something that policy is made from may have changed; `local` are the instances there are. */
  update(local: readonly LocalInstance[]): void {
    const { manifests } = this.manifests
    this.#book.update({ manifests, files: this.#all.policies, local })
  }

  /** What is told of policy. */
  report(trustDomain: TrustDomain | null): PoliciesReport {
    const { directory } = this.#settings
    return policiesReport({ directory, files: this.#all, manifests: this.manifests, trustDomain })
  }
}
