/** Owns the one call that needs no certificate, and how often an address may make it. */

import type { Handlers } from '#shared/rpc/api-service.ts'
import { refuse } from '#shared/rpc/api-service.ts'
import type { Enrolment } from '#controller/enrolment/enrolment.ts'
import type { RateLimits } from './rate-limits.ts'

/** The handlers of `Enrolment`. */
export function enrolmentApi(parts: {
  readonly enrolment: Enrolment
  readonly limits: RateLimits
}): Handlers<'Enrolment'> {
  return {
    async Enrol(request, caller) {
      const address = caller.address.replace(/:\d+$/, '')
      if (!parts.limits.take(address)) {
        const message = `too many enrolments from ${address}; try again in a minute`
        return refuse('overloaded', 'too-many-calls', message)
      }
      return parts.enrolment.enrol(request, address)
    },
  }
}
