/**
 * Owns the compiled policies of this host's services. One that did not change stays the same object,
 * so that connections see by a look at the reference whether they are to be asked again. Pure.
 */

import { serviceId } from '#shared/model/spiffe-id.ts'
import type { ServiceName, TrustDomain } from '#shared/model/names.ts'
import type { ServicePolicy } from '#shared/model/policy.ts'
import { CompiledPolicy } from './compiled-policy.ts'
import { openPolicy } from './service-policy.ts'

/** The part of a snapshot it is made from. */
export interface PolicyView {
  readonly trustDomain: TrustDomain
  /** By service; what is not in it has the default of every service. */
  readonly policies: Readonly<Record<string, ServicePolicy>>
}

interface Entry {
  readonly text: string
  readonly compiled: CompiledPolicy
}

/** See the header. */
export class PolicyTable {
  #view: PolicyView | null = null
  #entries = new Map<ServiceName, Entry>()

  /** Takes over the policies of a snapshot; answers whether one that was in use has changed. */
  apply(view: PolicyView): boolean {
    this.#view = view
    const before = this.#entries
    this.#entries = new Map()
    let isChanged = false
    for (const [service, entry] of before) {
      const now = this.#entry(service, entry)
      isChanged ||= now !== entry
      this.#entries.set(service, now)
    }
    return isChanged
  }

  /** The policy of a service. */
  of(service: ServiceName): CompiledPolicy {
    const known = this.#entries.get(service)
    if (known !== undefined) return known.compiled
    const entry = this.#entry(service, undefined)
    this.#entries.set(service, entry)
    return entry.compiled
  }

  #entry(service: ServiceName, before: Entry | undefined): Entry {
    const view = this.#view
    if (view === null) throw new TypeError('a policy was asked for before there was a view')
    const { policies, trustDomain } = view
    const policy = (Object.hasOwn(policies, service) ? policies[service] : undefined) ?? openPolicy
    const text = JSON.stringify(policy)
    if (before?.text === text) return before
    const destination = serviceId(trustDomain, service)
    return { text, compiled: new CompiledPolicy(policy, { trustDomain, destination }) }
  }
}
