/**
 * Owns the manifest as users write it: its JSON Schema, its defaults, and the reading that reports
 * every problem of a file at once. Keys that belong together are in the files `manifest-*.ts` beside,
 * each with its reading. What several manifests mean together is the agent's business.
 */

import { isIP } from 'node:net'
import { Type, type Static } from 'typebox'
import type { Manifest } from '#shared/model/manifest.ts'
import { parseServiceName, type ServiceName } from '#shared/model/names.ts'
import { reservedNames } from '#shared/model/target.ts'
import { check, show } from './check.ts'
import { deepFreeze } from './freeze.ts'
import { healthSchema, readHealth } from './health.ts'
import { readDocument, type JsonDocument } from './json-document.ts'
import { captureFacts, captureKeys } from './manifest-capture.ts'
import { externalConflicts, externalFacts, externalKey } from './manifest-external.ts'
import { reportIdleKeys, reportNothing } from './manifest-idle.ts'
import { labelFacts, labelKeys } from './manifest-labels.ts'
import { linkFacts, linkKeys, serviceNamePattern } from './manifest-links.ts'
import { portFacts, portKeys } from './manifest-ports.ts'
import { manifestPolicy, manifestPolicyKeys } from './policy.ts'
import type { Problem, Report } from './problem.ts'

/** JSON Schema of a manifest, for editors and `meshctl schema`. */
export const manifestSchema = Type.Object(
  {
    $schema: Type.Optional(
      Type.String({ maxLength: 1024, description: 'where editors find this schema' }),
    ),
    name: Type.Optional(
      Type.String({
        pattern: serviceNamePattern,
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
    ...linkKeys,
    ...labelKeys,
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
  if (isObject && !isMisspelt) reportNothing(document, report)
  return manifest !== null && problems.length === 0
    ? { ok: true, manifest: deepFreeze({ ...manifest, ...settings }), document }
    : { ok: false, problems: atMost(inOrder(problems)) }
}

function build(document: JsonDocument, raw: RawManifest, report: Report): Manifest | null {
  const service = serviceOf(document, raw, report)
  const served = portFacts(document, raw, report)
  const links = linkFacts(raw, service, served, report)
  const labels = labelFacts(raw, report)
  const isExternal = document.has('/external')
  const external = externalFacts(document, raw.external, report)
  reportIdleKeys(document, report)
  const address = addressOf(raw, report)
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
    ...links,
    ...capture,
    ...labels,
    ...(policy === null ? {} : { policy }),
    ...(raw.maxConcurrent === undefined ? {} : { maxConcurrent: raw.maxConcurrent }),
    drainMs: raw.drainMs ?? 30_000,
  }
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

function addressOf(raw: RawManifest, report: Report): string {
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
  return address
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
