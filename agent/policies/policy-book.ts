/**
 * Owns what holds for each service of this host: what its manifest and the policy files say, put
 * together. A service that drains keeps the policy it had, since its manifest is gone but not its
 * callers. It reads no files.
 */

import type { Manifest } from '#shared/model/manifest.ts'
import type { ServiceName } from '#shared/model/names.ts'
import type { Policy, ServicePolicy } from '#shared/model/policy.ts'
import type { LocalInstance } from '#shared/model/snapshot.ts'
import { openPolicy, servicePolicyOf } from '#shared/policy/service-policy.ts'

/** What the book is made from. */
export interface PolicySources {
  readonly manifests: readonly Manifest[]
  /** In the order of their files' names. */
  readonly files: readonly Policy[]
  /** Every instance this host may still be asked for. */
  readonly local: readonly Pick<LocalInstance, 'service'>[]
}

/** What a manifest says of policy, and which names its rules may use. */
interface Said {
  readonly policy?: Policy | undefined
  readonly ports: Manifest['ports']
}

const nothing: Said = { ports: [] }

/** See the header. */
export class PolicyBook {
  /** What manifests said last, of services that are still there. */
  #ofManifests = new Map<ServiceName, Said>()
  #policies: Readonly<Record<string, ServicePolicy>> = {}
  #shown = '[]'
  #sources: PolicySources = { manifests: [], files: [], local: [] }

  /** By service, those of which nothing is said left out; the same object until one changes. */
  get policies(): Readonly<Record<string, ServicePolicy>> {
    return this.#policies
  }

  /** What holds for one service. */
  of(service: ServiceName): ServicePolicy {
    return (
      (Object.hasOwn(this.#policies, service) ? this.#policies[service] : undefined) ?? openPolicy
    )
  }

  /** Takes over what is said now; lists that are the same objects say the same. */
  update(sources: PolicySources): void {
    const { manifests, files, local } = sources
    const before = this.#sources
    this.#sources = sources
    if (
      manifests === before.manifests &&
      isSameList(files, before.files) &&
      isSameList(local, before.local)
    ) {
      return
    }
    const said = new Map<ServiceName, Said>()
    for (const { service } of local) said.set(service, this.#ofManifests.get(service) ?? nothing)
    for (const { service, policy, ports } of manifests) said.set(service, { policy, ports })
    this.#ofManifests = said
    const policies = [...said].flatMap(([service, { policy: own, ports }]) => {
      const policy = servicePolicyOf(service, own === undefined ? files : [own, ...files], ports)
      return policy === openPolicy ? [] : [[service, policy] as const]
    })
    const shown = JSON.stringify(policies)
    if (shown === this.#shown) return
    this.#shown = shown
    this.#policies = Object.freeze(Object.fromEntries(policies))
  }
}

function isSameList(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a === b || (a.length === b.length && a.every((one, index) => one === b[index]))
}
