/** Owns what operators do with several controllers over the API: letting one in, and listing them. */

import type { Logger } from '#shared/logging/logger.ts'
import { parseHostName } from '#shared/model/names.ts'
import { checkCsr } from '#shared/pki/csr.ts'
import type { Handlers } from '#shared/rpc/api-service.ts'
import { refuse } from '#shared/rpc/api-service.ts'
import type { Authority } from '#controller/ca/authority.ts'
import type { Membership } from '#controller/leader/membership.ts'
import type { AccessInForce } from '#controller/store/host-access.ts'
import { operatorCaller } from './callers.ts'

/** What it leans on. */
export interface ControllersApiParts {
  readonly authority: Authority
  readonly access: AccessInForce
  readonly membership: Membership
  readonly logger: Logger
}

/** The handlers of `Controllers`. */
export function controllersApi(
  parts: ControllersApiParts,
  settings: { readonly controller: string; readonly isEmbedded: boolean },
): Handlers<'Controllers'> {
  return {
    async Admit(request, caller) {
      const operator = operatorCaller(caller)
      if (!operator.ok) return refuse('denied', 'not-an-operator', operator.problem)
      const name = parseHostName(request.name)
      if (!name.ok) return refuse('bad-request', 'bad-controller-name', name.problem)
      if (name.value === settings.controller) {
        const message = `this controller is called ${name.value} itself; each needs a name of its own`
        return refuse('bad-request', 'controller-name-taken', message)
      }
      if (settings.isEmbedded) {
        const message =
          'several controllers need an etcd of their own; move there first: meshctl store migrate'
        return refuse('bad-request', 'store-is-embedded', message)
      }
      const csr = checkCsr(request.csr)
      if (!csr.ok) return refuse('bad-request', 'bad-csr', csr.problem)
      if (csr.value.asymmetricKeyType !== 'ec') {
        return refuse('bad-request', 'bad-csr', 'the key of an issuing certificate must be P-256')
      }
      const certificatesPem = await parts.authority.issueIntermediate(name.value, csr.value)
      if (certificatesPem === null) {
        const message = `controller ${settings.controller} does not hold the root’s key; ask the one that does, or have the request signed where that key is kept`
        return refuse('bad-request', 'no-root-key', message)
      }
      await parts.access.admitController(name.value)
      const audit = { audit: 'controller-admitted', name: name.value, by: operator.value }
      parts.logger.warn(audit, 'another controller may issue certificates')
      return { ok: true, value: { certificatesPem } }
    },

    async ListControllers(_request, caller) {
      const operator = operatorCaller(caller)
      if (!operator.ok) return refuse('denied', 'not-an-operator', operator.problem)
      const { controllers, leader } = parts.membership
      return { ok: true, value: { controllers, leader } }
    },
  }
}
