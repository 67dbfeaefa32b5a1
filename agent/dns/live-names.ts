/** Owns the names of the mesh as the zone asks for them, from the plan of what is captured. Pure. */

import type { TargetName } from '#shared/model/target.ts'
import type { MeshNames, NamedService } from './zone.ts'

type Names = ReadonlyMap<string, NamedService>

/** Virtual IPs are the mesh's, also those that are free. */
const virtualRange = '240.240.'

/** See the header. */
export class LiveNames implements MeshNames {
  readonly #names: () => Names | null
  #seen: Names | null = null
  #byAddress: ReadonlyMap<string, NamedService> = new Map()

  /** @param parts - `names` answers null while nothing is captured */
  constructor(parts: { readonly names: () => Names | null }) {
    this.#names = parts.names
  }

  get known(): boolean {
    return this.#names() !== null
  }

  find(service: string): NamedService | undefined {
    return this.#names()?.get(service)
  }

  at(address: string): TargetName | null | undefined {
    const names = this.#names()
    if (names === null) return undefined
    if (names !== this.#seen) this.#index(names)
    const found = this.#byAddress.get(address)
    if (found !== undefined) return found.service
    return address.startsWith(virtualRange) ? null : undefined
  }

  #index(names: Names): void {
    this.#seen = names
    this.#byAddress = new Map(
      [...names.values()].flatMap((named) =>
        [named.ipv4, named.ipv6].flatMap((address) =>
          address === null ? [] : [[address, named] as const],
        ),
      ),
    )
  }
}
