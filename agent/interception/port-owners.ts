/**
 * Owns the question whether the ports that a local user's manifest names are his to offer: whether
 * another user listens at one of them. It is told what was seen, and looks at nothing itself.
 */

import { servedPorts, type Manifest } from '#shared/model/manifest.ts'
import type { ServiceName } from '#shared/model/names.ts'

/** Who listens at the ports of a local user's service. */
export interface SeenListeners {
  readonly manifest: Manifest
  /** The number of the user whose manifest it is; null where there is no such user, or it could not be asked. */
  readonly user: number | null
  /** The users of the sockets, null where none listens. */
  readonly listeners: readonly (number | null)[]
}

interface Known {
  /** Where it was looked for, and for whom. */
  readonly at: string
  readonly isOthers: boolean
}

/** See the header. */
export class PortOwners {
  #known: ReadonlyMap<ServiceName, Known> = new Map()
  #onChange: (services: ReadonlySet<ServiceName>) => void = () => {}

  /**
   * Whether another user listens at a port of a local user's service; null until that has been looked for.
   * The administrator's manifests may speak of anybody's.
   */
  isOthers(manifest: Manifest): boolean | null {
    if (manifest.owner === undefined) return false
    const known = this.#known.get(manifest.service)
    return known?.at === placesText(manifest) ? known.isOthers : null
  }

  /** Says who is told of services of which that is known now, or has changed. */
  onChange(listener: (services: ReadonlySet<ServiceName>) => void): void {
    this.#onChange = listener
  }

  /** Takes over what was seen of all services of local users. */
  take(seen: readonly SeenListeners[]): void {
    const before = this.#known
    const known = new Map<ServiceName, Known>()
    for (const { manifest, user, listeners } of seen) {
      if (user === null) continue
      const isOthers = listeners.some((listener) => listener !== null && listener !== user)
      known.set(manifest.service, { at: placesText(manifest), isOthers })
    }
    this.#known = known
    const changed = new Set<ServiceName>()
    for (const [service, { at, isOthers }] of this.#known) {
      const was = before.get(service)
      if (was?.at !== at || was.isOthers !== isOthers) changed.add(service)
    }
    if (changed.size > 0) this.#onChange(changed)
  }
}

/** Where a service is served, and whose it is, to be compared. */
function placesText(manifest: Manifest): string {
  const ports = servedPorts(manifest).map(({ port }) => port)
  return `${manifest.owner ?? ''} ${manifest.address} ${ports.join()}`
}
