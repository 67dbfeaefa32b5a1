/** Owns the checks of interception: whether connections are captured, and whose they are. Pure. */

import type { CallerReport } from '#shared/model/admin-capture.ts'
import type { AgentFacts } from '#shared/model/admin.ts'
import { bad, list, ok, skipped, type Check, type Judgement } from './judgement.ts'

export const captureChecks: readonly Check[] = [
  { name: 'capture', judge: capture },
  {
    name: 'bypasses',
    judge: ({ status: { capture: facts, nowMs } }) => {
      const words = facts.bypasses.map(({ service, untilMs, by, reason }) => {
        const seconds = Math.ceil((untilMs - nowMs) / 1000)
        return `${service} for another ${seconds} s, by ${by}: ${reason}`
      })
      return words.length === 0
        ? ok('no service bypasses the mesh')
        : bad(
            'warning',
            `${words.length} services bypass the mesh`,
            list(words),
            'it ends by itself; earlier with: meshctl bypass SERVICE --end',
          )
    },
  },
  {
    name: 'callers-known',
    judge: ({ status: { capture: facts } }) => {
      if (facts.kind === 'off') return skipped('nothing is captured here')
      const isKnown = ({ user, unit }: CallerReport): boolean => user !== null || unit !== null
      const unknown = facts.callers.filter((one) => !isKnown(one))
      const wrong = facts.callers.filter((one) => isKnown(one) && one.problem !== '')
      const words = [...wrong, ...unknown].map(({ service, problem }) => `${service}: ${problem}`)
      if (words.length === 0)
        return ok(`${facts.callers.length} services are known by their users or units`)
      return bad(
        'warning',
        `${words.length} of ${facts.callers.length} services are not known by a user or unit of their own`,
        list(words),
        'run each service as a user or unit of its own and name it in its manifest: "run": {"user": "orders"}',
      )
    },
  },
  {
    name: 'egress',
    judge: ({ status: { capture: facts } }) => {
      if (facts.egress === 'allow-any') return ok('services here may reach anything')
      return facts.kind === 'on'
        ? ok('services here reach only what the mesh knows')
        : bad(
            'failed',
            'egress is registry-only, but services here reach anything: nothing is captured',
            facts.reason,
            'see the check capture',
          )
    },
  },
  {
    name: 'external',
    judge: ({ external }) => {
      const words = external.flatMap(({ service, endpoints, problems }) =>
        problems.map(
          (problem) => `${service}${endpoints.length === 0 ? ' (down)' : ''}: ${problem}`,
        ),
      )
      if (words.length === 0) return ok(`${external.length} external services have addresses`)
      return bad(
        external.some(({ endpoints }) => endpoints.length === 0) ? 'failed' : 'warning',
        'external services are not where their manifests say, or not to be proven',
        list(words),
        'see meshctl external; correct the names or caFile in the manifest, or the resolver of this host',
      )
    },
  },
  {
    name: 'intercepts',
    judge: ({ status: { capture: facts } }) =>
      facts.problems.length === 0
        ? ok('every address asked for is captured, or nothing is')
        : bad(
            'warning',
            `${facts.problems.length} addresses are not captured`,
            list(facts.problems),
            'mend "intercept" in the manifest that asks for it',
          ),
  },
]

function capture({ status: { capture: facts } }: AgentFacts): Judgement {
  switch (facts.kind) {
    case 'on':
      if (facts.limit === '') return ok(`${facts.destinations} addresses lead into the mesh`)
      return bad(
        'warning',
        `${facts.destinations} addresses lead into the mesh, as far as this kernel can`,
        facts.limit,
        'load the kernel module it names (modprobe), or use a kernel that has it; then restart mesh-agent',
      )
    case 'off':
      return skipped(`off: ${facts.reason}`)
    case 'lifted':
      return bad(
        'warning',
        'connections are not captured: an operator has switched it off',
        facts.reason,
        'once there is no reason for it any more: meshctl capture on',
      )
    case 'waiting':
      return bad(
        'warning',
        'connections are not captured yet',
        facts.reason,
        'wait a moment; if it stays so, see workers-connected',
      )
    case 'failed':
      return bad(
        'failed',
        'connections are not captured',
        facts.reason,
        facts.hint || 'the log has more; the agent tries again by itself',
      )
  }
}
