/**
 * Owns the checks of `meshctl check` as a whole: which there are and in which order they are shown. Each
 * is a pure judgement of an agent's facts, with what was found, the likely cause and what to do, and
 * stands in the file of its subject. Names are stable; `docs/checks.md` has a section for each.
 */

import { captureChecks } from './capture-checks.ts'
import { certificateChecks } from './certificate-checks.ts'
import { controlPlaneChecks } from './control-plane-checks.ts'
import { bad, ok, type Check } from './judgement.ts'
import { listenerChecks } from './listener-checks.ts'
import { machineChecks } from './machine-checks.ts'
import { manifestChecks } from './manifest-checks.ts'
import { policyChecks } from './policy-checks.ts'
import { workerChecks } from './worker-checks.ts'
import type { AgentFacts, CheckReport } from '#shared/model/admin.ts'

const agentReady: Check = {
  name: 'agent-ready',
  judge: ({ status }) =>
    status.ready
      ? ok(`agent ${status.version} on ${status.host} is ready`)
      : bad(
          'failed',
          'the agent is not ready',
          `it waits for ${status.waitsFor}`,
          'the checks below name what is missing',
        ),
}

/** In the order they are shown: what others depend on comes first. */
const checks: readonly Check[] = [
  agentReady,
  ...certificateChecks,
  ...controlPlaneChecks,
  ...workerChecks,
  ...listenerChecks,
  ...captureChecks,
  ...manifestChecks,
  ...policyChecks,
  ...machineChecks,
]

/** The names of all checks of the agent, in the order they are shown. */
export const checkNames: readonly string[] = checks.map(({ name }) => name)

/** Judges an agent's facts; one report per check, always in the same order. */
export function judge(facts: AgentFacts): readonly CheckReport[] {
  return checks.map((check) => ({ name: check.name, ...check.judge(facts) }))
}
