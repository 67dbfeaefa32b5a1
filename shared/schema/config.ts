/**
 * Owns the reading of boot config: defaults ← file ← environment, checked as one, with every fault
 * reported together by file:line:column or by the variable's name, and frozen. It opens no file and
 * reads no environment itself.
 */

import type { Static, TObject, TSchema } from 'typebox'
import { check, nameOf } from './check.ts'
import { didYouMean } from './did-you-mean.ts'
import { deepFreeze } from './freeze.ts'
import { readDocument, type JsonDocument } from './json-document.ts'
import { joinPointer, splitPointer, type JsonValue } from './json-reader.ts'
import type { Problem, Report } from './problem.ts'

/** Where the values come from. */
export interface ConfigSources {
  /** The config file with its path, or null where none is used. */
  readonly file: { readonly path: string; readonly bytes: Uint8Array } | null
  readonly environment: Readonly<Record<string, string | undefined>>
  /** What its variables start with, such as `MESH_`. */
  readonly prefix: string
}

/** What reading answers; a config that is there has no problem at all. */
export type ConfigReading<T> =
  | { readonly ok: true; readonly config: T }
  | { readonly ok: false; readonly problems: readonly Problem[] }

/** Stands for a text that is missing or wrong, so that all the others can still be tried. */
const standIn = '-'

/**
 * Reads a config. `build` turns checked raw values into the typed config, reporting what the schema
 * cannot say; its answer counts only if it reported nothing.
 *
 * The variable of key `log.level` under prefix `MESH_` is `MESH_LOG_LEVEL`, that of `joinTokenFile`
 * is `MESH_JOIN_TOKEN_FILE`. A key whose schema has a `default` takes it where no source names it.
 */
export function readConfig<S extends TObject, T>(
  schema: S,
  sources: ConfigSources,
  build: (raw: Static<S>, report: Report) => T,
): ConfigReading<T> {
  const document = readFile(sources.file)
  if (document !== null && !document.ok) return document
  const file = document?.document ?? null
  const problems: Problem[] = []
  const fromEnvironment = new Map<string, string>()
  const report: Report = (pointer, fault) => {
    const variable = fromEnvironment.get(pointer)
    problems.push(
      file !== null && variable === undefined
        ? file.problem(pointer, fault)
        : placeless(variable ?? 'config', pointer, fault),
    )
  }

  const raw = withDefaults(schema, file?.value ?? {})
  const leaves = new Map(leavesOf(schema, '', sources.prefix))
  for (const [name, text] of Object.entries(sources.environment)) {
    if (text === undefined || !name.startsWith(sources.prefix)) continue
    const leaf = leaves.get(name)
    if (leaf === undefined) {
      // Other programs share the prefix; only a near miss can be a mistake.
      const meant = didYouMean(name, leaves.keys(), { within: 2 })
      if (meant !== null) {
        const message = `unknown variable ${name}`
        const fault = { rule: 'unknown-variable', message, hint: `did you mean ${meant}?` }
        problems.push(placeless(name, '', fault))
      }
      continue
    }
    fromEnvironment.set(leaf.pointer, name)
    assign(raw, splitPointer(leaf.pointer), valueOf(leaf.type, text))
  }

  const { rest } = check(schema, raw, report)
  // With every fault taken out, rules beyond the schema can be tried on what is left.
  const missing = new Set<string>()
  const filled = withDefaults(schema, rest)
  check(schema, filled, (pointer) => missing.add(pointer))
  for (const pointer of missing) assign(filled, splitPointer(pointer), standIn)
  const complete = check(schema, filled, () => {})
  const config = complete.sound
    ? build(complete.rest as Static<S>, (pointer, fault) => {
        if (!missing.has(pointer)) report(pointer, fault)
      })
    : null
  return problems.length > 0 || config === null
    ? { ok: false, problems: inOrder(problems) }
    : { ok: true, config: deepFreeze(config) }
}

/** The variable of every key of a schema, for docs and `--help`. */
export function variablesOf(schema: TObject, prefix: string): ReadonlyMap<string, string> {
  const variables = new Map<string, string>()
  for (const [name, { pointer }] of leavesOf(schema, '', prefix)) {
    variables.set(nameOf(pointer), name)
  }
  return variables
}

function readFile(
  file: ConfigSources['file'],
): { ok: true; document: JsonDocument } | { ok: false; problems: readonly Problem[] } | null {
  return file === null ? null : readDocument(file.path, file.bytes)
}

function placeless(file: string, path: string, fault: Parameters<Report>[1]): Problem {
  const { rule, message, hint = '' } = fault
  return { file, line: 0, column: 0, path, rule, message, hint }
}

interface Leaf {
  readonly pointer: string
  readonly type: string
}

type Shape = TSchema & {
  readonly type?: string
  readonly default?: JsonValue
  readonly properties?: Readonly<Record<string, Shape>>
}

function* leavesOf(schema: Shape, pointer: string, prefix: string): Generator<[string, Leaf]> {
  for (const [key, below] of Object.entries(schema.properties ?? {})) {
    const name = prefix + key.replace(/[A-Z]/g, (capital) => `_${capital}`).toUpperCase()
    const at = joinPointer(pointer, key)
    // A map has no variable: its keys are its user's own.
    if (below.type === 'object' && below.properties === undefined) continue
    if (below.properties === undefined) yield [name, { pointer: at, type: below.type ?? 'string' }]
    else yield* leavesOf(below, at, `${name}_`)
  }
}

/** A copy of `value` in which every absent key that has a default holds it. */
function withDefaults(schema: Shape, value: JsonValue): JsonValue {
  if (!isObject(value) || schema.properties === undefined) return value
  const filled: Record<string, JsonValue> = { ...value }
  for (const [key, below] of Object.entries(schema.properties)) {
    const given = Object.hasOwn(value, key) ? value[key] : undefined
    if (given !== undefined) filled[key] = withDefaults(below, given)
    else if (below.properties !== undefined) filled[key] = withDefaults(below, {})
    else if (below.default !== undefined) filled[key] = below.default
  }
  return filled
}

function assign(value: JsonValue, steps: readonly string[], leaf: JsonValue): void {
  const [step, ...rest] = steps
  if (step === undefined || !isObject(value)) return
  const object = value as Record<string, JsonValue>
  const below = object[step]
  if (rest.length === 0) object[step] = leaf
  else if (below !== undefined) assign(below, rest, leaf)
}

function valueOf(type: string, text: string): JsonValue {
  if (type === 'integer' && /^-?\d+$/.test(text)) return Number(text)
  if (type === 'boolean' && (text === 'true' || text === 'false')) return text === 'true'
  if (type === 'array') return listOf(text) ?? text
  return text
}

/** A list written as JSON; undefined where it is none, so that the check names what was written. */
function listOf(text: string): readonly JsonValue[] | undefined {
  try {
    const value = JSON.parse(text) as JsonValue
    return Array.isArray(value) ? value : undefined
  } catch {
    return undefined
  }
}

function isObject(value: JsonValue): value is Readonly<Record<string, JsonValue>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function inOrder(problems: readonly Problem[]): readonly Problem[] {
  return [...problems].sort(
    (a, b) => a.file.localeCompare(b.file) || a.line - b.line || a.column - b.column,
  )
}
