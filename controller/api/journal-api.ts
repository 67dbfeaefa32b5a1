/** Owns what operators ask of the journal over the API: which certificates there are. */

import type { Handlers } from '#shared/rpc/api-service.ts'
import { refuse } from '#shared/rpc/api-service.ts'
import type { Journal } from '#controller/ca/journal.ts'
import { operatorCaller } from './callers.ts'

/** Far below the largest message a client takes. */
const limits = { usual: 1000, most: 20_000 } as const

/** The handlers of `Journal`. */
export function journalApi(parts: { readonly journal: Journal }): Handlers<'Journal'> {
  return {
    async ListCertificates(request, caller) {
      const operator = operatorCaller(caller)
      if (!operator.ok) return refuse('denied', 'not-an-operator', operator.problem)
      const limit = Math.min(request.limit === 0 ? limits.usual : request.limit, limits.most)
      const { entries, more } = await parts.journal.list({ ...request, limit })
      return { ok: true, value: { certificates: entries, more } }
    },
  }
}
