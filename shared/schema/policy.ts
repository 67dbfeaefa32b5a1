/**
 * Owns the policy file as operators write it, and the policy part of a manifest: JSON Schema and the
 * reading that reports every fault at once. What several files mean together is `shared/policy`'s.
 */

import { Type, type Static } from 'typebox'
import type { Port, ServiceName } from '#shared/model/names.ts'
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

/** The key of a named port that is about policy. */
export const portAllowKey = {
  allow: Type.Optional(callers('')),
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
> & {
  readonly port?: number | undefined
  readonly ports?:
    | Readonly<Record<string, number | { readonly port: number; readonly allow?: string[] }>>
    | undefined
}

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
  const own = portsWithCallers(raw)
  const isSilent = [allow, deny, defaultPolicy, policyMode].every((one) => one === undefined)
  if (isSilent && own.length === 0) return null
  const rulesOf = (
    pointer: string,
    texts: readonly string[] | undefined,
    ports: readonly Port[],
  ): readonly PolicyRule[] => {
    readEach(pointer, texts, parseIdentityPattern, report)
    return (texts ?? []).map((text, index) => ({
      ...callerRule(document, `${pointer}/${index}`, text),
      ports,
    }))
  }
  const others = portsWithout(raw, own)
  if (own.length > 0 && others.length > 0 && !document.has('/allow')) {
    report(own[0]?.pointer ?? '', {
      rule: 'missing-key',
      message: 'one port says who may call it, and the others do not',
      hint: 'add "allow" for the others: ["*"] is the whole mesh',
      at: 'key',
    })
  }
  if (own.length > 0 && others.length === 0 && document.has('/allow')) {
    report('/allow', {
      rule: 'unused-key',
      message: 'allow has no effect where every port says who may call it',
      hint: 'remove it, or take "allow" out of a port',
      at: 'key',
    })
  }
  return {
    ...commonOf(document, raw, report, own.at(0)?.pointer),
    services: [service],
    deny: rulesOf('/deny', deny, []),
    allow: [
      ...own.flatMap((one) => rulesOf(one.pointer, one.allow, [one.port])),
      ...rulesOf('/allow', allow, own.length === 0 ? [] : others),
    ],
  }
}

/** A named port that says who may call it. */
interface OpenedPort {
  readonly port: Port
  readonly allow: readonly string[]
  readonly pointer: string
}

function portsWithCallers({ ports = {} }: RawManifestPolicy): readonly OpenedPort[] {
  return Object.entries(ports).flatMap(([name, given]) =>
    typeof given === 'number' || given.port === undefined || given.allow === undefined
      ? []
      : [{ port: given.port as Port, allow: given.allow, pointer: `/ports/${name}/allow` }],
  )
}

/** The other ports of the service. */
function portsWithout(
  { port, ports = {} }: RawManifestPolicy,
  own: readonly OpenedPort[],
): readonly Port[] {
  const named = Object.values(ports).map((one) => (typeof one === 'number' ? one : one.port))
  const all = [...new Set([...(port === undefined ? [] : [port]), ...named])] as Port[]
  return all.filter((one) => own.every((opened) => opened.port !== one))
}

/** The parts that manifests and policy files share, and the faults they can share. */
function commonOf(
  document: JsonDocument,
  raw: Pick<RawPolicy, 'defaultPolicy' | 'policyMode'>,
  report: Report,
  portAllow?: string,
): Pick<Policy, 'file' | 'mode' | 'fallback'> {
  const { defaultPolicy, policyMode } = raw
  const has = (key: string): boolean => document.has(`/${key}`)
  const allowing = has('allow') ? '/allow' : portAllow
  if (allowing === undefined && !has('deny') && !has('defaultPolicy')) {
    const key = has('policyMode') ? '/policyMode' : ''
    report(key, {
      rule: 'nothing-to-do',
      message: 'nothing is allowed, denied or made the default',
      hint: 'add "allow", "deny" or "defaultPolicy"',
    })
  }
  if (allowing !== undefined && defaultPolicy !== undefined && defaultPolicy !== 'deny') {
    report(allowing, {
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
