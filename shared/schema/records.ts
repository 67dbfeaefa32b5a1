/**
 * Owns the reading and writing of store records: JSON checked against one schema each, and against
 * the key it stands under, so that a record can never speak for another host. A bad record is
 * rejected alone. Unknown members are dropped, because newer hosts may write them.
 */

import { Type } from 'typebox'
import { Compile } from 'typebox/compile'
import { labelsOf } from '#shared/model/instance-labels.ts'
import type { Parsed } from '#shared/model/names.ts'
import {
  must,
  parseHostName,
  parseInstanceId,
  parsePort,
  parsePortName,
  parseServiceName,
} from '#shared/model/names.ts'
import type {
  HostPresence,
  HostRecord,
  InstanceRecord,
  NamedPort,
  Protocol,
} from '#shared/model/records.ts'
import { parseMeshKey } from '#shared/store/keys.ts'
import { parseHostAddress } from './ip-address.ts'

/** No record needs more; longer ones are refused before they are parsed. Characters. */
const longestRecord = 64 * 1024

const name = Type.String({ pattern: '^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$' })
const port = Type.Integer({ minimum: 1, maximum: 65535 })
const portName = Type.String({ pattern: '^[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?$' })
const protocol = Type.Union([Type.Literal('http'), Type.Literal('tcp')])
const dateTime = Type.String({
  pattern: '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d(?:\\.\\d{1,9})?(?:Z|[+-]\\d\\d:\\d\\d)$',
})

const instance = Compile(
  Type.Object({
    service: name,
    host: name,
    id: name,
    protocol,
    port,
    ports: Type.Optional(
      Type.Array(
        Type.Object({
          name: portName,
          port,
          protocol,
          down: Type.Optional(Type.Literal(true)),
        }),
        { maxItems: 64 },
      ),
    ),
    weight: Type.Integer({ minimum: 1, maximum: 1000 }),
    state: Type.Union([Type.Literal('up'), Type.Literal('left')]),
    onAgentDown: Type.Optional(Type.Literal('deny')),
    plain: Type.Optional(Type.Literal(true)),
    intercept: Type.Optional(Type.Array(Type.String({ maxLength: 260 }), { maxItems: 64 })),
    zone: Type.Optional(Type.String({ maxLength: 253 })),
    version: Type.Optional(Type.String({ maxLength: 100 })),
    tags: Type.Optional(Type.Array(Type.String({ maxLength: 100 }), { maxItems: 100 })),
    metadata: Type.Optional(
      Type.Record(Type.String({ maxLength: 100 }), Type.String({ maxLength: 1000 }), {
        maxProperties: 100,
      }),
    ),
    application: Type.Optional(Type.String({ maxLength: 100 })),
    speech: Type.Optional(Type.String({ maxLength: 100 })),
    keepAliveMs: Type.Optional(Type.Integer({ minimum: 0, maximum: 1_000_000_000 })),
  }),
)
const presence = Compile(
  Type.Object({
    host: name,
    address: Type.String({ maxLength: 64 }),
    tunnelPort: port,
    zone: Type.String({ maxLength: 253 }),
    version: Type.String({ maxLength: 100 }),
    facts: Type.Optional(
      Type.Record(Type.String({ maxLength: 100 }), Type.String({ maxLength: 1000 }), {
        maxProperties: 100,
      }),
    ),
  }),
)
const host = Compile(
  Type.Object({
    host: name,
    services: Type.Array(Type.String({ minLength: 1, maxLength: 253 }), { maxItems: 1000 }),
    enrolledAt: dateTime,
    usedTokens: Type.Optional(
      Type.Record(Type.String({ pattern: '^[A-Za-z0-9_-]{1,64}$' }), Type.Integer({ minimum: 0 }), {
        additionalProperties: false,
        maxProperties: 1000,
      }),
    ),
  }),
)

/** An entry under `/mesh/v1/`, read. */
export type MeshEntry =
  | { readonly kind: 'instance'; readonly record: InstanceRecord }
  | { readonly kind: 'presence'; readonly record: HostPresence }
  | { readonly kind: 'unknown' }

/** Reads an instance's record. */
export function decodeInstance(text: string): Parsed<InstanceRecord> {
  return decode('instance', instance, text, (raw) => ({
    service: must(parseServiceName(raw.service)),
    host: must(parseHostName(raw.host)),
    id: must(parseInstanceId(raw.id)),
    protocol: raw.protocol,
    port: must(parsePort(raw.port)),
    ...(raw.ports === undefined ? {} : { ports: raw.ports.map(namedPort) }),
    weight: raw.weight,
    state: raw.state,
    ...(raw.intercept === undefined ? {} : { intercept: raw.intercept }),
    ...(raw.onAgentDown === undefined ? {} : { onAgentDown: raw.onAgentDown }),
    ...(raw.plain === undefined ? {} : { plain: raw.plain }),
    ...labelsOf(raw),
  }))
}

function namedPort(raw: {
  readonly name: string
  readonly port: number
  readonly protocol: Protocol
  readonly down?: true
}): NamedPort {
  return {
    ...(raw.down === undefined ? {} : { down: raw.down }),
    name: must(parsePortName(raw.name)),
    port: must(parsePort(raw.port)),
    protocol: raw.protocol,
  }
}

/** Reads a host's presence. */
export function decodePresence(text: string): Parsed<HostPresence> {
  const record = decode('presence', presence, text, (raw) => raw)
  if (!record.ok) return record
  const { host, tunnelPort, zone, version, facts } = record.value
  const address = parseHostAddress(record.value.address)
  if (!address.ok) return { ok: false, problem: `presence record at /address: ${address.problem}` }
  return {
    ok: true,
    value: {
      host: must(parseHostName(host)),
      address: address.value,
      tunnelPort: must(parsePort(tunnelPort)),
      zone,
      version,
      ...(facts === undefined ? {} : { facts }),
    },
  }
}

/** Reads a host's record. */
export function decodeHost(text: string): Parsed<HostRecord> {
  return decode('host', host, text, (raw) => ({
    host: must(parseHostName(raw.host)),
    services: raw.services,
    enrolledAt: raw.enrolledAt,
    ...(raw.usedTokens === undefined ? {} : { usedTokens: raw.usedTokens }),
  }))
}

/** Reads any entry under `/mesh/v1/`; a record that names another host than its key is refused. */
export function decodeMeshEntry(key: string, text: string): Parsed<MeshEntry> {
  const parsed = parseMeshKey(key)
  if (!parsed.ok) return parsed
  const at = parsed.value
  switch (at.kind) {
    case 'instance': {
      const record = decodeInstance(text)
      if (!record.ok) return under(key, record.problem)
      const { service, host, id } = record.value
      return service === at.service && host === at.host && id === at.id
        ? { ok: true, value: { kind: 'instance', record: record.value } }
        : under(key, `instance record names ${service}/${host}/${id}, not what its key names`)
    }
    case 'presence': {
      const record = decodePresence(text)
      if (!record.ok) return under(key, record.problem)
      return record.value.host === at.host
        ? { ok: true, value: { kind: 'presence', record: record.value } }
        : under(key, `presence record names host ${record.value.host}, not what its key names`)
    }
    // Signed: read by who knows the roots.
    case 'host':
    case 'trust':
    case 'unknown':
      return { ok: true, value: { kind: 'unknown' } }
  }
}

/** Writes a record; members in one order, so that equal records are equal texts. */
export function encodeRecord(record: InstanceRecord | HostPresence | HostRecord): string {
  return JSON.stringify(record, (_, value: unknown) => inOneOrder(value))
}

function inOneOrder(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
}

function under(key: string, problem: string): { readonly ok: false; readonly problem: string } {
  return { ok: false, problem: `${key}: ${problem}` }
}

interface Validator<Raw> {
  Check(value: unknown): value is Raw
  Errors(value: unknown): readonly { readonly instancePath: string; readonly message: string }[]
}

function decode<Raw, T>(
  what: string,
  validator: Validator<Raw>,
  text: string,
  build: (raw: Raw) => T,
): Parsed<T> {
  if (text.length > longestRecord) {
    return { ok: false, problem: `${what} record is longer than ${longestRecord} characters` }
  }
  let raw: unknown
  try {
    raw = JSON.parse(text)
  } catch {
    return { ok: false, problem: `${what} record is not JSON` }
  }
  if (validator.Check(raw)) return { ok: true, value: build(raw) }
  const [first] = validator.Errors(raw)
  const where = first === undefined || first.instancePath === '' ? '' : ` at ${first.instancePath}`
  return { ok: false, problem: `${what} record${where} ${first?.message ?? 'is malformed'}` }
}
