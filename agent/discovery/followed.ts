/** Owns what discovery has to know of what is followed of the store. Types, and the simplest case. */

import type { ServiceName } from '#shared/model/names.ts'
import { wholeMesh, type Scope } from '#shared/store/scope.ts'

/** What is followed of the store, and in use here. */
export interface Followed {
  readonly isOn: boolean
  readonly scope: Scope
  readonly used: ReadonlyMap<ServiceName, number>
  restore(isOn: boolean, used: Iterable<readonly [ServiceName, number]>): void
  onChange(listener: () => void): void
  /** The view has changed. */
  changed(): void
}

/** The whole mesh, however large. */
export const everything: Followed = {
  isOn: false,
  scope: wholeMesh,
  used: new Map(),
  restore() {},
  onChange() {},
  changed() {},
}
