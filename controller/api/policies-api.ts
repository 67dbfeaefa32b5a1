/**
 * Owns what operators do with the policies that hold on every host: putting, removing and listing
 * them. A policy is read here by the very code that agents read it with; what is faulty is refused.
 */

import type { Clock } from '#shared/lifecycle/clock.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { Handlers } from '#shared/rpc/api-service.ts'
import { refuse } from '#shared/rpc/api-service.ts'
import { isPolicyName, longestPolicy, readMeshPolicy } from '#shared/schema/mesh-policies.ts'
import { renderProblem } from '#shared/schema/problem.ts'
import type { TrustLedger } from '#controller/ca/trust-ledger.ts'
import { operatorCaller } from './callers.ts'

/** What it leans on. */
export interface PoliciesApiParts {
  readonly ledger: TrustLedger
  readonly clock: Pick<Clock, 'now'>
  readonly logger: Logger
}

const mostProblems = 20

/** The handlers of `Policies`. */
export function policiesApi({ ledger, clock, logger }: PoliciesApiParts): Handlers<'Policies'> {
  return {
    async PutPolicy({ name, text }, caller) {
      const operator = operatorCaller(caller)
      if (!operator.ok) return refuse('denied', 'not-an-operator', operator.problem)
      if (!isPolicyName(name)) {
        const message = `a policy is named like a service, not ${JSON.stringify(name.slice(0, 100))}`
        return refuse('bad-request', 'bad-policy-name', message)
      }
      if (text.length > longestPolicy) {
        const message = `a policy has at most ${longestPolicy} characters, not ${text.length}`
        return refuse('bad-request', 'bad-policy', message)
      }
      const reading = readMeshPolicy(name, text)
      if (!reading.ok) {
        const problems = reading.problems.slice(0, mostProblems).map(renderProblem)
        return refuse('bad-request', 'bad-policy', problems.join('\n'))
      }
      const by = operator.value
      const at = new Date(clock.now()).toISOString()
      const changed = await ledger.changePolicies((policies) => {
        const known = Object.hasOwn(policies, name) ? policies[name] : undefined
        return known?.text === text ? null : { ...policies, [name]: { text, by, at } }
      })
      if (changed) logger.info({ audit: 'policy-put', policy: name, by }, 'a policy was put')
      return { ok: true, value: { changed, epoch: ledger.epochs.policies } }
    },

    async RemovePolicy({ name }, caller) {
      const operator = operatorCaller(caller)
      if (!operator.ok) return refuse('denied', 'not-an-operator', operator.problem)
      const by = operator.value
      const changed = await ledger.changePolicies((policies) => {
        if (!Object.hasOwn(policies, name)) return null
        const { [name]: _gone, ...others } = policies
        return others
      })
      if (changed)
        logger.info({ audit: 'policy-removed', policy: name, by }, 'a policy was removed')
      return { ok: true, value: { changed, epoch: ledger.epochs.policies } }
    },

    async ListPolicies(_request, caller) {
      const operator = operatorCaller(caller)
      if (!operator.ok) return refuse('denied', 'not-an-operator', operator.problem)
      const policies = Object.entries(ledger.policies)
        .map(([name, { text, by, at }]) => ({ name, text, by, at }))
        .toSorted((a, b) => (a.name < b.name ? -1 : 1))
      return { ok: true, value: { policies, epoch: ledger.epochs.policies } }
    },
  }
}
