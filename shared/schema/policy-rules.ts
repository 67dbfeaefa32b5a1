/**
 * Owns the rules of policies as users write them: the schema of one rule, and the reading of its
 * parts, with every fault reported where it stands.
 */

import { Type, type Static } from 'typebox'
import type { Parsed, Port, PortName } from '#shared/model/names.ts'
import type { HeaderCondition, PolicyRule, ValuePattern } from '#shared/model/policy.ts'
import { parseIdentityPattern } from '#shared/policy/identity-pattern.ts'
import { parsePathPattern } from '#shared/policy/path-pattern.ts'
import { show } from './check.ts'
import type { JsonDocument } from './json-document.ts'
import { joinPointer } from './json-reader.ts'
import type { Report } from './problem.ts'

const list = (description: string, maxLength: number) =>
  Type.Optional(
    Type.Array(Type.String({ minLength: 1, maxLength, description }), {
      minItems: 1,
      maxItems: 100,
      description,
    }),
  )

/** Who may be named in `from`, `allow` and `deny`. */
export const callerWords =
  'callers: "web" (a service), "host/h1", a whole SPIFFE id, each also with * at its end; "*" is the whole mesh'

/** JSON Schema of a rule. */
export const ruleSchema = Type.Object(
  {
    name: Type.Optional(
      Type.String({
        pattern: '^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$',
        maxLength: 63,
        description: 'what refusals and metrics call it; without it its place, such as deny[0]',
      }),
    ),
    from: list(callerWords, 2048),
    methods: list('methods in capitals; GET stands for HEAD too', 32),
    paths: list('paths: "/a", "/a*", "/a/*" (also /a itself), "/a/{id}/b"', 1024),
    hosts: list('host names without port; "*.a.b" is every name below', 253),
    headers: Type.Optional(
      Type.Record(
        Type.String({ pattern: "^[!#$%&'*+\\-.^_`|~0-9A-Za-z]{1,100}$" }),
        list('values; with * at the end, beginnings of values', 1024),
        {
          additionalProperties: false,
          minProperties: 1,
          maxProperties: 20,
          description: 'names of header fields and the values that fit: {"x-tenant": ["acme"]}',
        },
      ),
    ),
    ports: Type.Optional(
      Type.Array(
        Type.Union(
          [
            Type.Integer({ minimum: 1, maximum: 65535 }),
            Type.String({ pattern: '^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$', maxLength: 63 }),
          ],
          { description: 'a port of the service, by number or by name' },
        ),
        {
          minItems: 1,
          maxItems: 100,
          description: 'ports the service listens on, by number or by name: [8080, "admin"]',
        },
      ),
    ),
  },
  { additionalProperties: false, description: 'a rule { ... }' },
)

type RawRule = Static<typeof ruleSchema>

/** Fields that the mesh sets or that end at each hop: what a rule saw would not be what arrives. */
const unruly =
  /^(?:connection|content-length|expect|host|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|via|x-mesh-.*|x-forwarded-.*|x-request-id)$/

/** Reads the rule at a pointer; parts that are wrong are reported and left out. */
export function readRule(
  document: JsonDocument,
  pointer: string,
  raw: RawRule,
  report: Report,
): PolicyRule {
  const conditions = Object.keys(raw).filter((key) => key !== 'name')
  if (conditions.length === 0) {
    report(pointer, {
      rule: 'empty-rule',
      message: 'a rule without conditions',
      hint: 'for every caller of the mesh write "from": ["*"]',
    })
  }
  const each = <T>(key: string, items: readonly string[] | undefined, parse: Parse<T>): T[] =>
    readEach(joinPointer(pointer, key), items, parse, report)
  const names = (raw.ports ?? []).filter((port) => typeof port === 'string') as PortName[]
  return {
    ref: refOf(document, pointer, raw.name),
    from: each('from', raw.from, parseIdentityPattern),
    methods: each('methods', raw.methods, parseMethod),
    paths: each('paths', raw.paths, parsePathPattern),
    hosts: each('hosts', raw.hosts, parseHost),
    headers: Object.entries(raw.headers ?? {}).map(([name, values]) =>
      readHeader(joinPointer(joinPointer(pointer, 'headers'), name), name, values ?? [], report),
    ),
    ports: (raw.ports ?? []).filter((port) => typeof port === 'number') as Port[],
    ...(names.length === 0 ? {} : { portNames: names }),
  }
}

/** A rule for callers alone. */
export function callerRule(document: JsonDocument, pointer: string, text: string): PolicyRule {
  const pattern = parseIdentityPattern(text)
  return {
    ref: refOf(document, pointer, undefined),
    from: pattern.ok ? [pattern.value] : [],
    methods: [],
    paths: [],
    hosts: [],
    headers: [],
    ports: [],
  }
}

/** Reads each text of a list; those that are wrong are reported and left out. */
export function readEach<T>(
  pointer: string,
  items: readonly string[] | undefined,
  parse: Parse<T>,
  report: Report,
): T[] {
  return (items ?? []).flatMap((item, index) => {
    const parsed = parse(item)
    if (parsed.ok) return [parsed.value]
    report(`${pointer}/${index}`, { rule: 'bad-pattern', message: parsed.problem })
    return []
  })
}

type Parse<T> = (text: string) => Parsed<T>

/** `/deny/0` is told as `deny[0]`. */
function refOf(
  document: JsonDocument,
  pointer: string,
  name: string | undefined,
): PolicyRule['ref'] {
  const place = pointer.slice(1).replace(/\/(\d+)$/, '[$1]')
  return { rule: name ?? place, file: document.file, line: document.placeOf(pointer).line }
}

function readHeader(
  pointer: string,
  text: string,
  values: readonly string[],
  report: Report,
): HeaderCondition {
  const name = text.toLowerCase()
  if (unruly.test(name)) {
    report(pointer, {
      rule: 'unruly-field',
      message: `no rule can depend on the field ${show(name)}`,
      hint:
        name === 'host' ? 'use "hosts"' : 'it ends at each hop, or the mesh sets it; use "from"',
      at: 'key',
    })
  }
  return { name, values: readEach(pointer, values, parseValue, report) }
}

function parseValue(text: string): Parsed<ValuePattern> {
  if (!/^[\x20-\x7e]*$/.test(text) || text !== text.trim()) {
    return bad(`${show(text)} is no printable ASCII without blanks at its ends`)
  }
  const isPrefix = text.endsWith('*')
  const value = { kind: isPrefix ? 'prefix' : 'exact', text: isPrefix ? text.slice(0, -1) : text }
  return { ok: true, value: value as ValuePattern }
}

function parseMethod(text: string): Parsed<string> {
  return /^[A-Z][A-Z-]*$/.test(text)
    ? { ok: true, value: text }
    : bad(`method ${show(text)} must be in capitals, as in GET`)
}

function parseHost(text: string): Parsed<string> {
  const shape = /^(?:\*\.)?[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?$/
  return shape.test(text)
    ? { ok: true, value: text }
    : bad(`host ${show(text)} must be a name in lower case, without port, such as "*.orders.mesh"`)
}

function bad(problem: string): Parsed<never> {
  return { ok: false, problem }
}
