/**
 * Owns the reading of the mesh's policies: policy files that operators gave to the controller, which
 * travel to every host as one signed record, so that a missing key can take no rule away.
 */

import { Type } from 'typebox'
import { Compile } from 'typebox/compile'
import type { Parsed } from '#shared/model/names.ts'
import type { Policy } from '#shared/model/policy.ts'
import type { MeshPolicies } from '#shared/model/trust.ts'
import type { PolicyReading } from './policy.ts'
import { readPolicy } from './policy.ts'
import { renderProblem } from './problem.ts'

/** The longest policy, characters: with its escapes it fits into a request. */
export const longestPolicy = 32 * 1024

const name = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/
const shape = Compile(
  Type.Record(
    Type.String({ pattern: name.source }),
    Type.Object({
      text: Type.String({ maxLength: longestPolicy }),
      by: Type.String({ maxLength: 400 }),
      at: Type.String({ maxLength: 40 }),
    }),
    { additionalProperties: false },
  ),
)

/** Whether a policy may be called so. */
export function isPolicyName(text: string): boolean {
  return name.test(text)
}

/** The file that refusals and reports name for a policy of the mesh. */
export function meshPolicyFile(policy: string): string {
  return `mesh-policies/${policy}.json`
}

/** Reads one policy of the mesh. */
export function readMeshPolicy(policy: string, text: string): PolicyReading {
  return readPolicy(meshPolicyFile(policy), Buffer.from(text))
}

/** Reads the body of the policies' record; the policies in it are not looked into. */
export function decodePolicies(text: string): Parsed<MeshPolicies> {
  let raw: unknown
  try {
    raw = JSON.parse(text)
  } catch {
    raw = null
  }
  return shape.Check(raw)
    ? { ok: true, value: raw }
    : { ok: false, problem: 'the record of policies is malformed' }
}

/** Reads every policy of the mesh, in the order of their names; all of them, or none. */
export function readMeshPolicies(policies: MeshPolicies): Parsed<readonly Policy[]> {
  const read: Policy[] = []
  for (const [policy, { text }] of Object.entries(policies).toSorted(([a], [b]) =>
    a < b ? -1 : 1,
  )) {
    const reading = readMeshPolicy(policy, text)
    if (!reading.ok) return { ok: false, problem: reading.problems.map(renderProblem).join('; ') }
    read.push(reading.policy)
  }
  return { ok: true, value: read }
}
