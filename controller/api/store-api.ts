/** Owns what operators do with the store over the API: asking how it is. */

import type { Handlers } from '#shared/rpc/api-service.ts'
import { refuse } from '#shared/rpc/api-service.ts'
import type { MeshDescription } from '#shared/rpc/mesh-api.ts'
import type { KeyValue } from '#shared/store/key-value.ts'
import { operatorCaller } from './callers.ts'

/** What it leans on. */
export interface StoreApiParts {
  readonly store: KeyValue
  readonly describe: () => MeshDescription
}

/** The handlers of `StoreOperations`. */
export function storeApi(parts: StoreApiParts): Handlers<'StoreOperations'> {
  return {
    async DescribeStore(_request, caller) {
      const operator = operatorCaller(caller)
      if (!operator.ok) return refuse('denied', 'not-an-operator', operator.problem)
      const status = await parts.store.status()
      return { ok: true, value: { store: parts.describe().store, ...status } }
    },
  }
}
