/**
 * Owns which of the mesh's keys a host follows: all of them, or in a mesh too large for that what
 * every host has to know and the instances of the services it uses. Pure.
 */

import type { ServiceName } from '#shared/model/names.ts'
import {
  instancesOfService,
  instancesPrefix,
  parseMeshKey,
  presencePrefix,
  trustPrefix,
} from './keys.ts'

/** See the header. */
export type Scope =
  | { readonly kind: 'whole' }
  | { readonly kind: 'services'; readonly services: ReadonlySet<ServiceName> }

/** Decides the scope of a session when it begins. */
export interface ScopeChooser {
  /** @param instances - how many the store has, of all services */
  choose(instances: number): Scope
}

/** Everything. */
export const wholeMesh: Scope = { kind: 'whole' }

/** What is followed besides services: hosts are few, and no instance is of use without its host. */
const always = [trustPrefix, presencePrefix] as const

/** The prefixes of a scope; `whole` is the one of everything. */
export function prefixesOf(scope: Scope, whole: string): readonly string[] {
  switch (scope.kind) {
    case 'whole':
      return [whole]
    case 'services':
      return [...always, ...Array.from(scope.services, instancesOfService)]
  }
}

/** Whether a key is followed. */
export function isInScope(scope: Scope, key: string): boolean {
  if (scope.kind === 'whole') return true
  if (!key.startsWith(instancesPrefix)) return always.some((prefix) => key.startsWith(prefix))
  const at = parseMeshKey(key)
  return at.ok && at.value.kind === 'instance' && scope.services.has(at.value.service)
}
