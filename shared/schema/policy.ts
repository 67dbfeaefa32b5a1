/**
 * Owns the policy file as operators write it, and the policy part of a manifest: JSON Schema and the
 * reading that reports every fault at once. What several files mean together is `shared/policy`'s.
 */

import { Type, type Static } from 'typebox'
import type { ServiceName } from '#shared/model/names.ts'
import type { Policy, PolicyRule } from '#shared/model/policy.ts'
import { parseIdentityPattern } from '#shared/policy/identity-pattern.ts'
import { check, show } from './check.ts'
import { deepFreeze } from './freeze.ts'
import { readDocument, type JsonDocument } from './json-document.ts'
import { callerRule, callerWords, readEach, readRule, ruleSchema } from './policy-rules.ts'
import type { Problem, Report } from './problem.ts'

const fallbackSchema = Type.Enum(['allow-all', 'allow-mesh', 'deny'], {
  description:
    'what holds where no rule fits; without it deny if anybody is allowed, else allow-mesh (every identity of the mesh)',
})

const modeSchema = Type.Enum(['enforce', 'audit'], {
  description: 'audit: count and log what would be refused, and let it pass',
  default: 'enforce',
})

const callers = (effect: string) =>
  Type.Array(Type.String({ minLength: 1, maxLength: 2048, description: callerWords }), {
    minItems: 1,
    maxItems: 256,
    description: `who may ${effect}call: "web" (a service), "host/h1", a SPIFFE id, each also with * at its end`,
  })

/** The keys of a manifest that are about policy. */
export const manifestPolicyKeys = {
  allow: Type.Optional(callers('')),
  deny: Type.Optional(callers('not ')),
  defaultPolicy: Type.Optional(fallbackSchema),
  policyMode: Type.Optional(modeSchema),
}

const rules = (description: string) =>
  Type.Optional(Type.Array(ruleSchema, { minItems: 1, maxItems: 256, description }))

/** JSON Schema of a policy file. */
export const policySchema = Type.Object(
  {
    $schema: Type.Optional(
      Type.String({ maxLength: 1024, description: 'where editors find this schema' }),
    ),
    services: Type.Array(
      Type.String({
        pattern: '^(?:\\*|[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?|[a-z0-9][a-z0-9-]{0,61}\\*)$',
        maxLength: 63,
        description: 'a service of this host, or with * at the end the beginning of names',
      }),
      {
        minItems: 1,
        maxItems: 256,
        description: 'the services it is about; with * at the end, beginnings of names',
      },
    ),
    allow: rules('rules of which one must fit'),
    deny: rules('rules of which none may fit; they win over allow'),
    defaultPolicy: Type.Optional(fallbackSchema),
    policyMode: Type.Optional(modeSchema),
  },
  {
    additionalProperties: false,
    $id: 'urn:hostmesh:policy:1',
    title: 'Hostmesh policy',
    description: 'who may call services of this host',
  },
)

type RawPolicy = Static<typeof policySchema>
type RawManifestPolicy = Pick<
  Static<ReturnType<typeof manifestShape>>,
  'allow' | 'deny' | 'defaultPolicy' | 'policyMode'
>

/** What reading a policy answers; a policy that is there has no problem at all. */
export type PolicyReading =
  | { readonly ok: true; readonly policy: Policy }
  | { readonly ok: false; readonly problems: readonly Problem[] }

/** Reads the bytes of one policy file. Never throws on any input. */
export function readPolicy(file: string, bytes: Uint8Array): PolicyReading {
  const reading = readDocument(file, bytes)
  if (!reading.ok) return { ok: false, problems: reading.problems }
  const { document } = reading
  const problems: Problem[] = []
  const report: Report = (pointer, fault) => void problems.push(document.problem(pointer, fault))
  const { sound } = check(policySchema, document.value, report)
  if (!sound) return { ok: false, problems }
  const raw = document.value as unknown as RawPolicy
  const rulesOf = (key: 'allow' | 'deny'): readonly PolicyRule[] =>
    (raw[key] ?? []).map((rule, index) => readRule(document, `/${key}/${index}`, rule, report))
  const policy = {
    ...commonOf(document, raw, report),
    services: raw.services,
    deny: rulesOf('deny'),
    allow: rulesOf('allow'),
  }
  return problems.length === 0 ? { ok: true, policy: deepFreeze(policy) } : { ok: false, problems }
}

/** Reads what a manifest says of policy; null where it says nothing. */
export function manifestPolicy(
  document: JsonDocument,
  service: ServiceName,
  raw: RawManifestPolicy,
  report: Report,
): Policy | null {
  const { allow, deny, defaultPolicy, policyMode } = raw
  if ([allow, deny, defaultPolicy, policyMode].every((one) => one === undefined)) return null
  const rulesOf = (key: 'allow' | 'deny'): readonly PolicyRule[] => {
    readEach(`/${key}`, raw[key], parseIdentityPattern, report)
    return (raw[key] ?? []).map((text, index) => callerRule(document, `/${key}/${index}`, text))
  }
  return {
    ...commonOf(document, raw, report),
    services: [service],
    deny: rulesOf('deny'),
    allow: rulesOf('allow'),
  }
}

/** The parts that manifests and policy files share, and the faults they can share. */
function commonOf(
  document: JsonDocument,
  raw: Pick<RawPolicy, 'defaultPolicy' | 'policyMode'>,
  report: Report,
): Pick<Policy, 'file' | 'mode' | 'fallback'> {
  const { defaultPolicy, policyMode } = raw
  const has = (key: string): boolean => document.has(`/${key}`)
  if (!has('allow') && !has('deny') && !has('defaultPolicy')) {
    const key = has('policyMode') ? '/policyMode' : ''
    report(key, {
      rule: 'nothing-to-do',
      message: 'nothing is allowed, denied or made the default',
      hint: 'add "allow", "deny" or "defaultPolicy"',
    })
  }
  if (has('allow') && defaultPolicy !== undefined && defaultPolicy !== 'deny') {
    report('/allow', {
      rule: 'unused-key',
      message: `allow has no effect while defaultPolicy is ${show(defaultPolicy)}`,
      hint: 'leave defaultPolicy out: whoever is not allowed is denied then',
      at: 'key',
    })
  }
  const line = (pointer: string): number => document.placeOf(pointer).line
  return {
    file: document.file,
    mode: policyMode ?? 'enforce',
    fallback:
      defaultPolicy === undefined
        ? null
        : {
            policy: defaultPolicy,
            ref: {
              rule: `default ${defaultPolicy}`,
              file: document.file,
              line: line('/defaultPolicy'),
            },
          },
  }
}

function manifestShape() {
  return Type.Object(manifestPolicyKeys)
}
