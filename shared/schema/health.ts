/**
 * Owns the health checks of a manifest as users write them: one object or a list of them, their
 * defaults, and which key belongs to which kind.
 */

import { Type, type Static } from 'typebox'
import type { CheckSubject, HealthCheck } from '#shared/model/health-check.ts'
import type { ManifestPort } from '#shared/model/manifest.ts'
import type { Port } from '#shared/model/names.ts'
import { show } from './check.ts'
import { didYouMean } from './did-you-mean.ts'
import type { JsonDocument } from './json-document.ts'
import type { Report } from './problem.ts'

const kinds = ['tcp', 'http', 'grpc', 'systemd', 'push'] as const

const checkSchema = Type.Object(
  {
    kind: Type.Optional(
      Type.Enum([...kinds], {
        description:
          'tcp: a connection opens; http: a GET answers 200 to 399, and 429 warns; grpc: grpc.health.v1 says SERVING; systemd: a unit is active; push: results are brought by `meshctl health`',
        default: 'tcp',
      }),
    ),
    name: Type.Optional(
      Type.String({
        pattern: '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$',
        maxLength: 63,
        description: 'what the check is called, one of several; default: its kind',
      }),
    ),
    port: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 65535,
        description: 'port that is asked, where it is not that of the service',
      }),
    ),
    portName: Type.Optional(
      Type.String({
        pattern: '^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$',
        maxLength: 63,
        description:
          'named port the check is about: it is asked, and the verdict counts for it alone unless it is the main one',
      }),
    ),
    path: Type.Optional(
      Type.String({
        maxLength: 1024,
        description: 'request target of an http check, such as /healthz',
        default: '/',
      }),
    ),
    service: Type.Optional(
      Type.String({
        pattern: '^[A-Za-z0-9_./-]{1,253}$',
        maxLength: 253,
        description: 'what a grpc check asks for; default: the server as a whole',
      }),
    ),
    unit: Type.Optional(
      Type.String({
        pattern:
          '^[A-Za-z0-9:_.\\\\@][A-Za-z0-9:_.\\\\@-]{0,200}\\.(?:service|socket|target|timer|mount|path|slice|scope)$',
        maxLength: 255,
        description: 'unit of a systemd check, such as orders.service',
      }),
    ),
    ttlMs: Type.Optional(
      Type.Integer({
        minimum: 1000,
        maximum: 86_400_000,
        description: 'milliseconds a pushed result counts',
        default: 30_000,
      }),
    ),
    intervalMs: Type.Optional(
      Type.Integer({
        minimum: 100,
        maximum: 3_600_000,
        description: 'milliseconds from check to check, give or take a tenth; 5000 for systemd',
        default: 1000,
      }),
    ),
    timeoutMs: Type.Optional(
      Type.Integer({
        minimum: 10,
        maximum: 60_000,
        description: 'milliseconds a check may take',
        default: 1000,
      }),
    ),
    rise: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 100,
        description: 'passes in a row that make it healthy',
        default: 1,
      }),
    ),
    fall: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 100,
        description: 'failures in a row that make it unhealthy, or warnings that make it warn',
        default: 2,
      }),
    ),
    initial: Type.Optional(
      Type.Enum(['failing', 'passing'], {
        description: 'what counts until the first verdict',
        default: 'failing',
      }),
    ),
  },
  { additionalProperties: false },
)

const mostChecks = 8
/** Asking systemd starts a program. */
const systemdIntervalMs = 5000

/** JSON Schema of the key `health`. */
export const healthSchema = Type.Union(
  [checkSchema, Type.Array(checkSchema, { minItems: 1, maxItems: mostChecks })],
  {
    description: `how to tell whether the service works: one check, or a list of up to ${mostChecks} that must all pass`,
  },
)

type RawCheck = Static<typeof checkSchema>
type RawSubject = Omit<RawCheck, 'port'> & { readonly port: number | undefined }
type Kind = (typeof kinds)[number]

const paced = ['intervalMs', 'timeoutMs', 'rise', 'fall']
const keysOf: Readonly<Record<Kind, ReadonlySet<string>>> = {
  tcp: new Set(['port', ...paced]),
  http: new Set(['port', 'path', ...paced]),
  grpc: new Set(['port', 'service', ...paced]),
  systemd: new Set(['unit', ...paced]),
  push: new Set(['ttlMs']),
}
const common = new Set(['kind', 'name', 'portName', 'initial'])

/** What checks are about. */
interface ServedBy {
  readonly document: JsonDocument
  /** The main port. */
  readonly port?: Port
  readonly ports: readonly ManifestPort[]
}

/** Reads the checks that the schema has let pass; a service without any is asked for a connection. */
export function readHealth(
  raw: Static<typeof healthSchema> | undefined,
  of: ServedBy,
  report: Report,
): readonly HealthCheck[] {
  const isList = Array.isArray(raw)
  const checks: HealthCheck[] = []
  for (const [index, one] of (isList ? raw : [raw ?? {}]).entries()) {
    const pointer = isList ? `/health/${index}` : '/health'
    const check = readCheck(one, pointer, of, report)
    if (checks.some(({ name }) => name === check.name)) {
      report(one.name === undefined ? pointer : `${pointer}/name`, {
        rule: 'duplicate-check',
        message: `two checks are called ${show(check.name)}`,
        hint: 'give each a "name" of its own',
      })
    }
    checks.push(check)
  }
  if (checks.some(({ portName }) => portName === undefined)) return checks
  // Whoever checks single ports alone still wants to know whether the service is there at all.
  const isFree = (name: string): boolean => checks.every((check) => check.name !== name)
  let name = 'tcp'
  while (!isFree(name)) name = `main-${name}`
  return [...checks, { ...readCheck({}, '/health', of, report), name }]
}

function readCheck(
  raw: RawCheck,
  pointer: string,
  { document, port: main, ports }: ServedBy,
  report: Report,
): HealthCheck {
  const { kind = 'tcp', timeoutMs = 1000, rise = 1, fall = 2 } = raw
  const { intervalMs = kind === 'systemd' ? systemdIntervalMs : 1000 } = raw
  // What goes with a kind that is wrong, and reported as such, cannot be judged.
  const isMisspelt = raw.kind === undefined && document.has(`${pointer}/kind`)
  for (const key of isMisspelt ? [] : Object.keys(raw)) {
    if (common.has(key) || keysOf[kind].has(key)) continue
    const meant = kinds.find((one) => keysOf[one].has(key))
    report(`${pointer}/${key}`, {
      rule: 'unused-key',
      message: `${pointer.slice(1).replace('/', '.')}.${key} has no effect on a ${kind} check`,
      hint:
        kind === 'push' && paced.includes(key)
          ? `remove the ${key}: the agent asks nobody, and a result that is brought counts for "ttlMs"`
          : `add "kind": "${meant}", or remove the ${key}`,
      at: 'key',
    })
  }
  if (kind === 'systemd' && raw.unit === undefined && !document.has(`${pointer}/unit`)) {
    report(pointer, {
      rule: 'missing-key',
      message: 'a systemd check needs a unit',
      hint: 'add "unit": "orders.service"',
    })
  }
  const about = ports.find(({ name }) => name === raw.portName)
  if (raw.portName !== undefined && about === undefined) {
    const names = ports.map(({ name }) => name)
    const meant = didYouMean(raw.portName, names)
    report(`${pointer}/portName`, {
      rule: 'unknown-port',
      message: `the service has no port called ${show(raw.portName)}`,
      hint:
        meant !== null
          ? `did you mean ${show(meant)}?`
          : names.length === 0
            ? 'give its ports names with "ports"'
            : `its ports are ${names.join(', ')}`,
    })
  }
  return {
    ...subjectOf({ ...raw, port: raw.port ?? about?.port }, pointer, report),
    ...(about === undefined || about.port === main ? {} : { portName: about.name }),
    name: raw.name ?? kind,
    intervalMs,
    timeoutMs,
    rise,
    fall,
    initial: raw.initial ?? 'failing',
  }
}

function subjectOf(raw: RawSubject, pointer: string, report: Report): CheckSubject {
  const { kind = 'tcp', path = '/', service = '', unit = '', ttlMs = 30_000 } = raw
  const port = raw.port === undefined ? {} : { port: raw.port as Port }
  switch (kind) {
    case 'tcp':
      return { kind, ...port }
    case 'http':
      if (!/^\/[!-~]*$/.test(path)) {
        report(`${pointer}/path`, {
          rule: 'bad-path',
          message: `${pointer.slice(1).replace('/', '.')}.path ${show(path)} is not a request target`,
          hint: 'start with / and percent-encode spaces and anything that is not ASCII',
        })
      }
      return { kind, ...port, path }
    case 'grpc':
      return { kind, ...port, grpcService: service }
    case 'systemd':
      return { kind, unit }
    case 'push':
      return { kind, ttlMs }
  }
}
