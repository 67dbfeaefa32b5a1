/** Owns policies for tests, read from what an operator would write. */

import type { Policy } from '#shared/model/policy.ts'
import { readPolicy } from '#shared/schema/policy.ts'
import { renderProblem } from '#shared/schema/problem.ts'

/** A rule as it is written. */
export interface RuleWish {
  readonly name?: string
  readonly from?: readonly string[]
  readonly methods?: readonly string[]
  readonly paths?: readonly string[]
  readonly hosts?: readonly string[]
  readonly headers?: Readonly<Record<string, readonly string[]>>
  readonly ports?: readonly (number | string)[]
}

/** A policy file as it is written. */
export interface PolicyWish {
  readonly services: readonly string[]
  readonly allow?: readonly RuleWish[]
  readonly deny?: readonly RuleWish[]
  readonly defaultPolicy?: 'allow-all' | 'allow-mesh' | 'deny'
  readonly policyMode?: 'enforce' | 'audit'
}

/** Reads a policy file; throws where it has faults. Lists without rules are left out. */
export function policyOf(wish: PolicyWish, file = '/p.json'): Policy {
  const { allow = [], deny = [], ...rest } = wish
  const text = {
    ...rest,
    ...(allow.length === 0 ? {} : { allow }),
    ...(deny.length === 0 ? {} : { deny }),
  }
  const reading = readPolicy(file, Buffer.from(JSON.stringify(text, null, 2)))
  if (!reading.ok) throw new Error(reading.problems.map(renderProblem).join('\n'))
  return reading.policy
}
