/**
 * Owns the check of a JSON value against a schema, told in words for operators: one fault for each
 * wrong place, unknown keys with the one that was meant. Home of typebox, which other rooms use
 * through the schemas of this room.
 */

import { Settings } from 'typebox/system'
import type { TSchema } from 'typebox'
import { Errors } from 'typebox/value'
import { didYouMean } from './did-you-mean.ts'
import { joinPointer, splitPointer, type JsonValue } from './json-reader.ts'
import { shapeWords } from './shape-words.ts'
import type { Report } from './problem.ts'

// The library stops at eight by itself, and one mistake can count as several.
Settings.Set({ maxErrors: 1000 })

/** The parts of JSON Schema our schemas are made of. */
interface Node {
  readonly type?: string
  readonly enum?: readonly unknown[]
  readonly description?: string
  readonly minimum?: number
  readonly maximum?: number
  readonly minItems?: number
  readonly maxItems?: number
  readonly maxLength?: number
  readonly pattern?: string
  readonly properties?: Readonly<Record<string, Node>>
  readonly patternProperties?: Readonly<Record<string, Node>>
  readonly additionalProperties?: boolean | Node
  readonly items?: Node
  readonly anyOf?: readonly Node[]
}

/** What a check answers. */
export interface Checked {
  /** Whether nothing was reported. */
  readonly sound: boolean
  /** The value without its faulty parts, so that rules beyond the schema can go on looking. */
  readonly rest: JsonValue
}

/** Checks `value`, reporting each fault once. */
export function check(anySchema: TSchema, value: JsonValue, report: Report): Checked {
  const schema = settled(anySchema, value)
  const faulty = new Set<string>()
  const reported = new Set<string>()
  for (const { keyword, instancePath, params } of Errors(schema, value)) {
    const node = nodeAt(schema, instancePath)
    // A refused key also shows as a `boolean` schema of false, which says nothing more.
    if (keyword === 'boolean') continue
    if (keyword === 'additionalProperties') {
      for (const key of names(params, 'additionalProperties')) {
        const pointer = joinPointer(instancePath, key)
        if (!faulty.has(pointer)) reportUnknownKey(node, instancePath, key, report)
        faulty.add(pointer)
      }
    } else if (keyword === 'required') {
      for (const key of names(params, 'requiredProperties')) {
        const pointer = joinPointer(instancePath, key)
        if (!reported.has(pointer)) reportMissingKey(node, pointer, key, report)
        reported.add(pointer)
      }
    } else if (!faulty.has(instancePath)) {
      faulty.add(instancePath)
      reportWrongValue(node, instancePath, valueAt(value, instancePath), report)
    }
  }
  return { sound: faulty.size + reported.size === 0, rest: without(value, '', faulty) }
}

/**
 * The schema with every choice settled by the kind of value that stands there, so that faults are
 * told of what was meant. Choices stand behind keys of objects; their branches differ in type.
 */
function settled(schema: TSchema, value: JsonValue | undefined): TSchema {
  const node = schema as Node
  if (node.anyOf !== undefined) {
    const branches = node.anyOf as readonly (TSchema & Node)[]
    const meant = branches.find(({ type }) => type === typeOf(value)) ?? branches[0]
    return meant === undefined
      ? schema
      : settled({ description: node.description, ...meant }, value)
  }
  if (typeOf(value) !== 'object') return schema
  const members = value as Readonly<Record<string, JsonValue>>
  const settledProperties = (parts: readonly (readonly [string, Node])[]) =>
    Object.fromEntries(
      parts.map(([key, part]) => [key, settled(part as TSchema, own(members, key))]),
    )
  if (node.properties !== undefined) {
    return { ...schema, properties: settledProperties(Object.entries(node.properties)) }
  }
  const [pattern, part] = Object.entries(node.patternProperties ?? {})[0] ?? []
  if (pattern === undefined || part === undefined || part.anyOf === undefined) return schema
  const fitting = Object.keys(members).filter((key) => new RegExp(pattern).test(key))
  const properties = settledProperties(fitting.map((key) => [key, part]))
  return { ...schema, properties, patternProperties: { [pattern]: {} } }
}

function typeOf(value: JsonValue | undefined): string {
  if (Array.isArray(value)) return 'array'
  if (value === null) return 'null'
  return typeof value === 'number' ? 'integer' : typeof value
}

/** How a pointer reads in a sentence: `health.path`. */
export function nameOf(pointer: string): string {
  return pointer === '' ? 'the document' : splitPointer(pointer).join('.')
}

/** How a value reads in a sentence, cut short. */
export function show(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 80 ? `${text.slice(0, 77)}...` : text
}

function reportUnknownKey(
  node: Node | undefined,
  pointer: string,
  key: string,
  report: Report,
): void {
  // Where any key of a kind may stand, those that do stand there are no hint.
  const known = node?.patternProperties === undefined ? Object.keys(node?.properties ?? {}) : []
  const meant = didYouMean(key, known)
  if (known.length === 0) {
    const message = `${show(key)} cannot be a key of ${nameOf(pointer)}`
    const hint = node?.description ?? ''
    report(joinPointer(pointer, key), { rule: 'bad-key', message, hint, at: 'key' })
    return
  }
  report(joinPointer(pointer, key), {
    rule: 'unknown-key',
    message: `unknown key ${show(key)}`,
    hint: meant === null ? `known keys: ${known.join(', ')}` : `did you mean ${show(meant)}?`,
    at: 'key',
  })
}

function reportMissingKey(
  node: Node | undefined,
  pointer: string,
  key: string,
  report: Report,
): void {
  const hint = node?.properties?.[key]?.description ?? ''
  report(pointer, { rule: 'missing-key', message: `${nameOf(pointer)} is missing`, hint })
}

function reportWrongValue(
  node: Node | undefined,
  pointer: string,
  value: JsonValue | undefined,
  report: Report,
): void {
  const expected =
    node === undefined ? 'something else' : (shapeOf(node, value) ?? expectation(node))
  const unquoted =
    node?.type === 'integer' && typeof value === 'string' && /^\d+$/.test(value)
      ? `write it without quotes: ${value}`
      : undefined
  const meant =
    node?.enum !== undefined && typeof value === 'string'
      ? meantBy(value, node.enum.map(String))
      : null
  report(pointer, {
    rule: 'wrong-value',
    message: `${nameOf(pointer)} must be ${expected}, not ${show(value)}`,
    hint: unquoted ?? meant ?? node?.description ?? '',
  })
}

/** What a text should look like that has the right length; null where something else is wrong. */
function shapeOf(
  { pattern, maxLength = Number.POSITIVE_INFINITY }: Node,
  value: unknown,
): string | null {
  if (pattern === undefined || typeof value !== 'string') return null
  if (value.length === 0 || value.length > maxLength) return null
  return shapeWords(pattern)
}

/** What somebody meant who knows another word for it, or mistyped; null where nobody can tell. */
function meantBy(value: string, known: readonly string[]): string | null {
  // HTTPS is TLS to whoever carries it, and no health check asks through it.
  if (value.toLowerCase() === 'https' && !known.includes('https')) {
    if (known.includes('tls')) return `did you mean ${show('tls')}?`
    if (known.includes('tcp')) return `"http" asks in plain; take ${show('tcp')}`
  }
  const near = didYouMean(value, known)
  return near === null ? null : `did you mean ${show(near)}?`
}

function expectation(node: Node): string {
  if (node.anyOf !== undefined) return node.anyOf.map(expectation).join(' or ')
  if (node.enum !== undefined) return `one of ${node.enum.map(show).join(', ')}`
  if (node.type === 'integer') {
    return `a whole number from ${node.minimum ?? '-∞'} to ${node.maximum ?? '∞'}`
  }
  if (node.type === 'boolean') return 'true or false'
  if (node.type === 'object') return 'an object { ... }'
  if (node.type === 'array')
    return `a list of ${node.minItems ?? 0} to ${node.maxItems ?? '∞'} items`
  if (node.maxLength !== undefined) return `a text of 1 to ${node.maxLength} characters`
  return 'a text'
}

function nodeAt(schema: TSchema, pointer: string): Node | undefined {
  let node: Node | undefined = schema
  for (const step of splitPointer(pointer)) {
    node =
      own(node?.properties, step) ??
      Object.entries(node?.patternProperties ?? {}).find(([key]) =>
        new RegExp(key).test(step),
      )?.[1] ??
      (typeof node?.additionalProperties === 'object' ? node.additionalProperties : undefined) ??
      node?.items
  }
  return node
}

function valueAt(value: JsonValue, pointer: string): JsonValue | undefined {
  let at: JsonValue | undefined = value
  for (const step of splitPointer(pointer)) {
    at = own(at as Readonly<Record<string, JsonValue>> | undefined, step)
  }
  return at
}

function without(value: JsonValue, pointer: string, faulty: ReadonlySet<string>): JsonValue {
  if (typeof value !== 'object' || value === null) return value
  const kept = Object.entries(value)
    .filter(([key, part]) => !isFaulty(part, joinPointer(pointer, key), faulty))
    .map(([key, part]) => [key, without(part, joinPointer(pointer, key), faulty)] as const)
  return Array.isArray(value) ? kept.map(([, part]) => part) : Object.fromEntries(kept)
}

/** A list with a faulty item goes as a whole, so that what is left has the places it had. */
function isFaulty(value: JsonValue, pointer: string, faulty: ReadonlySet<string>): boolean {
  if (faulty.has(pointer)) return true
  return Array.isArray(value) && value.some((_, index) => faulty.has(`${pointer}/${index}`))
}

function own<T>(record: Readonly<Record<string, T>> | undefined, key: string): T | undefined {
  return record !== undefined && Object.hasOwn(record, key) ? record[key] : undefined
}

function names(params: object, key: string): readonly string[] {
  return (params as Readonly<Record<string, readonly string[] | undefined>>)[key] ?? []
}
