/** Owns the rows of the reference pages in docs/ as the code would have them; a test compares. */

import type { MetricDefinition } from '#shared/metrics/names.ts'
import { variablesOf } from '#shared/schema/config.ts'
import type { TObject } from '#shared/schema/type.ts'

interface Leaf {
  readonly key: string
  readonly preset: string
  readonly description: string
}

interface Shape {
  readonly type?: string
  readonly properties?: Readonly<Record<string, Shape>>
  readonly anyOf?: readonly Shape[]
  readonly default?: unknown
  readonly description?: string
}

/** Rows of a table of metrics. */
export function metricRows(definitions: Readonly<Record<string, MetricDefinition>>): string[] {
  return Object.values(definitions).map(({ name, kind, labels, help }) =>
    row(code(name), kind, labels.map(code).join(', '), help),
  )
}

/** Rows of a table of boot settings: key, default, variable, meaning. */
export function settingRows(schema: TObject, prefix: string): string[] {
  const variables = variablesOf(schema, prefix)
  return leavesOf(schema as Shape).map(({ key, preset, description }) =>
    row(code(key), preset, code(variables.get(key) ?? ''), description),
  )
}

/** Rows of a table of manifest keys: key, default, meaning. */
export function manifestRows(schema: TObject): string[] {
  return leavesOf(schema as Shape).map(({ key, preset, description }) =>
    row(code(key), preset, description),
  )
}

function leavesOf(shape: Shape, prefix = ''): Leaf[] {
  return Object.entries(shape.properties ?? {}).flatMap(([name, part]) => {
    const key = `${prefix}${name}`
    if (name === '$schema') return []
    const object = [part, ...(part.anyOf ?? [])].find((one) => one.properties !== undefined)
    if (object !== undefined) return leavesOf(object, `${key}.`)
    const preset = part.default === undefined ? '' : code(JSON.stringify(part.default))
    return [{ key, preset, description: part.description ?? '' }]
  })
}

function row(...cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`.replaceAll(/ {2,}/g, ' ')
}

function code(text: string): string {
  return text === '' ? '' : `\`${text}\``
}
