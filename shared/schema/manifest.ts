/**
 * Owns the manifest as users write it: its JSON Schema, its defaults, and the reading that reports
 * every problem of a file at once. What several manifests mean together is the agent's business. Longer
 * than most: every key stands here once, with its words.
 */

import { isIP } from 'node:net'
import { Type, type Static } from 'typebox'
import { labelsOf } from '#shared/model/instance-labels.ts'
import type { Manifest, Upstream } from '#shared/model/manifest.ts'
import { parsePort, parseServiceName, type ServiceName } from '#shared/model/names.ts'
import { parseTarget, reservedNames } from '#shared/model/target.ts'
import { check, show } from './check.ts'
import { deepFreeze } from './freeze.ts'
import { healthSchema, readHealth } from './health.ts'
import { readDocument, type JsonDocument } from './json-document.ts'
import { joinPointer, type JsonValue } from './json-reader.ts'
import { captureFacts, captureKeys } from './manifest-capture.ts'
import { externalConflicts, externalFacts, externalKey } from './manifest-external.ts'
import { portFacts, portKeys, portSchema, type PortFacts } from './manifest-ports.ts'
import { manifestPolicy, manifestPolicyKeys } from './policy.ts'
import type { Problem, Report } from './problem.ts'

const label = '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'
const targetPattern = `^([a-z]([a-z0-9-]{0,61}[a-z0-9])?[.])?${label.slice(1)}`

/** JSON Schema of a manifest, for editors and `meshctl schema`. */
export const manifestSchema = Type.Object(
  {
    $schema: Type.Optional(
      Type.String({ maxLength: 1024, description: 'where editors find this schema' }),
    ),
    name: Type.Optional(
      Type.String({
        pattern: label,
        maxLength: 63,
        description: "the service's name; without it the file's name is taken",
      }),
    ),
    port: portKeys.port,
    ports: portKeys.ports,
    address: Type.Optional(
      Type.String({
        maxLength: 45,
        description: 'IP address of this host on which the service listens',
        default: '127.0.0.1',
      }),
    ),
    protocol: portKeys.protocol,
    ...externalKey,
    weight: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 1000,
        description: 'share of the traffic, relative to the other instances',
        default: 100,
      }),
    ),
    warningWeight: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 1000,
        description: 'weight while a health check warns; default: weight',
      }),
    ),
    health: Type.Optional(healthSchema),
    upstreams: Type.Optional(
      Type.Record(
        Type.String({ pattern: targetPattern }),
        portSchema('local port on which this service reaches the other one'),
        {
          additionalProperties: false,
          maxProperties: 256,
          description:
            'names of services (lower-case letters, digits, hyphens) and the local ports that lead to them: {"orders": 9001}; a named port as "admin.orders"',
        },
      ),
    ),
    requires: Type.Optional(
      Type.Array(Type.String({ pattern: label, maxLength: 63 }), {
        maxItems: 256,
        description:
          'services it cannot do without, beside its upstreams; `meshctl check` tells when one has no instance, and `meshctl unit link` has its unit wait for them',
      }),
    ),
    version: Type.Optional(
      Type.String({
        pattern: '^[!-~]{1,63}$',
        maxLength: 63,
        description: 'release of the service, published with the instance',
      }),
    ),
    tags: Type.Optional(
      Type.Array(Type.String({ pattern: '^[!-~]{1,63}$', maxLength: 63 }), {
        maxItems: 32,
        description: 'words published with the instance, such as "canary"; without spaces',
      }),
    ),
    metadata: Type.Optional(
      Type.Record(
        Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$' }),
        Type.String({ maxLength: 256, description: 'a text of at most 256 characters' }),
        {
          additionalProperties: false,
          maxProperties: 32,
          description:
            'texts published with the instance, by name (letters, digits, ".", "_", "-", "/"): {"team": "payments"}',
        },
      ),
    ),
    zone: Type.Optional(
      Type.String({
        pattern: '^[!-~]{1,63}$',
        maxLength: 63,
        description: 'zone of this instance, where it is not that of its host',
      }),
    ),
    ...manifestPolicyKeys,
    maxConcurrent: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 1_000_000,
        description:
          'requests (http) or connections (tcp) it is given at once; more go elsewhere or are refused',
      }),
    ),
    ...captureKeys,
    drainMs: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 86_400_000,
        description: 'milliseconds open connections may live on after the manifest is gone',
        default: 30_000,
      }),
    ),
  },
  {
    additionalProperties: false,
    $id: 'urn:hostmesh:manifest:1',
    title: 'Hostmesh manifest',
    description: 'one local service, or a caller and its upstreams',
  },
)

/** Beyond this many, the problems of one file are counted only. */
const mostProblems = 100

type RawManifest = Static<typeof manifestSchema>

/** What reading a manifest answers; a manifest that is there has no problem at all. */
export type ManifestReading =
  | { readonly ok: true; readonly manifest: Manifest; readonly document: JsonDocument }
  | { readonly ok: false; readonly problems: readonly Problem[] }

/** Reads the bytes of one manifest file, `owner`'s or the administrator's. Never throws on any input. */
export function readManifest(
  file: string,
  bytes: Uint8Array,
  settings: { readonly owner?: string } = {},
): ManifestReading {
  const reading = readDocument(file, bytes)
  if (!reading.ok) return { ok: false, problems: atMost(reading.problems) }
  const { document } = reading
  const problems: Problem[] = []
  const report: Report = (pointer, fault) => void problems.push(document.problem(pointer, fault))
  const { rest } = check(manifestSchema, document.value, report)
  const isObject = typeof rest === 'object' && rest !== null && !Array.isArray(rest)
  const manifest = isObject ? build(document, rest as RawManifest, report) : null
  // An unknown key may be the misspelt port, and then one problem is enough.
  const isMisspelt = problems.some(({ rule }) => rule === 'unknown-key')
  if (isObject && !isMisspelt && asksForNothing(document)) reportNothing(report)
  return manifest !== null && problems.length === 0
    ? { ok: true, manifest: deepFreeze({ ...manifest, ...settings }), document }
    : { ok: false, problems: atMost(inOrder(problems)) }
}

function build(document: JsonDocument, raw: RawManifest, report: Report): Manifest | null {
  const service = serviceOf(document, raw, report)
  const served = portFacts(document, raw, report)
  const upstreams = upstreamsOf(raw, service, served, report)
  const requires = requiresOf(raw, service, report)
  const tags = tagsOf(raw, report)
  const isExternal = document.has('/external')
  const external = externalFacts(document, raw.external, report)
  if (isExternal)
    reportUnused(document, localKeys, 'in the manifest of an external service', report)
  else if (!isServed(document)) reportUnused(document, servingKeys, 'without a port', report)
  const address = raw.address ?? '127.0.0.1'
  if (isIP(address) === 0) {
    report('/address', {
      rule: 'not-an-address',
      message: `address ${show(address)} is not an IP address`,
      hint: 'write the address the service listens on, such as "127.0.0.1"',
    })
  } else if (address === '0.0.0.0' || address === '::') {
    report('/address', {
      rule: 'not-an-address',
      message: `address ${show(address)} is every address, not one`,
      hint: 'leave it out to use 127.0.0.1',
    })
  }
  const health = readHealth(raw.health, { document, ...served }, report)
  if (service === null) return null
  const policy = manifestPolicy(document, service, raw, report)
  const capture = captureFacts(document, raw, report)
  if (external !== null) externalConflicts(external, capture.intercept, report)
  return {
    file: document.file,
    service,
    ...served,
    // Nobody asks the world outside how it speaks.
    ...(isExternal && raw.protocol === undefined ? { protocol: 'tcp' as const } : {}),
    ...(external === null ? {} : { external }),
    address,
    weight: raw.weight ?? 100,
    warningWeight: raw.warningWeight ?? raw.weight ?? 100,
    health,
    upstreams,
    requires,
    ...capture,
    ...labelsOf({ ...raw, tags }),
    ...(policy === null ? {} : { policy }),
    ...(raw.maxConcurrent === undefined ? {} : { maxConcurrent: raw.maxConcurrent }),
    drainMs: raw.drainMs ?? 30_000,
  }
}

/** Keys that say how a service is served, and so nothing where none is. */
const servingKeys = [
  'protocol',
  'weight',
  'warningWeight',
  'health',
  'version',
  'tags',
  'metadata',
  'zone',
  'allow',
  'deny',
  'defaultPolicy',
  'policyMode',
  'maxConcurrent',
  'inbound',
  'intercept',
  'onAgentDown',
  'drainMs',
] as const

/** Keys about a service of this host, and so nothing to one outside. */
const localKeys = [
  'port',
  'ports',
  'address',
  'weight',
  'warningWeight',
  'health',
  'upstreams',
  'requires',
  'version',
  'tags',
  'metadata',
  'zone',
  'run',
  'inbound',
  'maxConcurrent',
  'drainMs',
] as const

function reportUnused(
  document: JsonDocument,
  keys: readonly string[],
  where: string,
  report: Report,
): void {
  for (const key of keys) {
    if (!document.has(`/${key}`)) continue
    report(`/${key}`, {
      rule: 'unused-key',
      message: `${key} has no effect ${where}`,
      hint: where === 'without a port' ? 'add "port": 8080, or remove it' : 'remove it',
      at: 'key',
    })
  }
}

function isServed(document: JsonDocument): boolean {
  return document.has('/port') || document.has('/ports')
}

/** Judged by the file itself: what is given but wrong was reported already. */
function asksForNothing(document: JsonDocument): boolean {
  const { upstreams = {}, requires = [] } = document.value as {
    readonly upstreams?: JsonValue
    readonly requires?: JsonValue
  }
  const isNobody = ['port', 'ports', 'run', 'external'].every((key) => !document.has(`/${key}`))
  return isNobody && show(upstreams) === '{}' && show(requires) === '[]'
}

function reportNothing(report: Report): void {
  report('', {
    rule: 'nothing-to-do',
    message: 'neither a port nor an upstream nor a required service nor a user is given',
    hint: 'add "port": 8080 for a service, or "upstreams": {"orders": 9001} for a caller',
  })
}

function serviceOf(document: JsonDocument, raw: RawManifest, report: Report): ServiceName | null {
  const { file } = document
  const stem = file.slice(file.lastIndexOf('/') + 1).replace(/\.json$/, '')
  if (raw.name === undefined && document.has('/name')) return null
  const name = parseServiceName(raw.name ?? stem)
  if (name.ok && Object.hasOwn(reservedNames, name.value)) {
    report(raw.name === undefined ? '' : '/name', {
      rule: 'reserved-name',
      message: `no service can be called ${show(name.value)}: ${reservedNames[name.value]}`,
      hint: 'give the service another "name"',
    })
    return null
  }
  if (name.ok) return name.value
  report(raw.name === undefined ? '' : '/name', {
    rule: 'bad-name',
    message: name.problem,
    hint: raw.name === undefined ? 'rename the file, or give the service a "name"' : '',
  })
  return null
}

function upstreamsOf(
  raw: RawManifest,
  self: ServiceName | null,
  { port: main, ports }: PortFacts,
  report: Report,
): readonly Upstream[] {
  const upstreams: Upstream[] = []
  const taken = new Map<number, string>()
  for (const [name, number] of Object.entries(raw.upstreams ?? {})) {
    const pointer = joinPointer('/upstreams', name)
    const target = parseTarget(name)
    const listen = parsePort(number)
    const isOwn = main === number || ports.some(({ port }) => port === number)
    const other = taken.get(number)
    taken.set(number, name)
    if (!target.ok) {
      report(pointer, { rule: 'bad-name', message: target.problem, at: 'key' })
    } else if (other !== undefined) {
      report(pointer, {
        rule: 'port-taken',
        message: `port ${number} already leads to ${show(other)}`,
        hint: 'give each upstream a port of its own',
      })
    } else if (isOwn && self !== null) {
      report(pointer, {
        rule: 'port-taken',
        message: `port ${number} is the one ${self} itself listens on`,
        hint: 'choose a free local port',
      })
    } else if (listen.ok) {
      const { service, portName } = target.value
      upstreams.push({ service, ...(portName === null ? {} : { portName }), port: listen.value })
    }
  }
  return upstreams
}

function requiresOf(
  { requires = [] }: RawManifest,
  self: ServiceName | null,
  report: Report,
): readonly ServiceName[] {
  const services = new Set<ServiceName>()
  for (const [index, name] of requires.entries()) {
    const service = parseServiceName(name)
    const fault = !service.ok
      ? service.problem
      : service.value === self
        ? `${self} cannot require itself`
        : services.has(service.value)
          ? `${show(name)} is given twice`
          : ''
    if (fault !== '') report(`/requires/${index}`, { rule: 'bad-name', message: fault })
    else if (service.ok) services.add(service.value)
  }
  return [...services]
}

function tagsOf({ tags = [] }: RawManifest, report: Report): readonly string[] {
  for (const [index, tag] of tags.entries()) {
    if (tags.indexOf(tag) === index) continue
    report(`/tags/${index}`, { rule: 'duplicate-tag', message: `tag ${show(tag)} is given twice` })
  }
  return tags
}

function atMost(problems: readonly Problem[]): readonly Problem[] {
  const next = problems[mostProblems]
  if (next === undefined) return problems
  const message = `${problems.length - mostProblems} more problems from here on`
  const rest = { ...next, rule: 'more-problems', message, hint: '' }
  return [...problems.slice(0, mostProblems), rest]
}

function inOrder(problems: readonly Problem[]): readonly Problem[] {
  return [...problems].sort((a, b) => a.line - b.line || a.column - b.column)
}
