/** Owns the rows of the reference pages in docs/ as the code would have them; a test compares. */

import type { MetricDefinition } from '#shared/metrics/names.ts'
import { variablesOf } from '#shared/schema/config.ts'
import { settingLeaves } from '#shared/schema/setting-leaves.ts'
import type { TObject } from '#shared/schema/type.ts'

/** Rows of a table of metrics. */
export function metricRows(definitions: Readonly<Record<string, MetricDefinition>>): string[] {
  return Object.values(definitions).map(({ name, kind, labels, help }) =>
    row(code(name), kind, labels.map(code).join(', '), help),
  )
}

/** Rows of a table of boot settings: key, default, variable, meaning. */
export function settingRows(schema: TObject, prefix: string): string[] {
  const variables = variablesOf(schema, prefix)
  return settingLeaves(schema).map(({ key, preset, description }) =>
    row(code(key), code(preset), code(variables.get(key) ?? ''), description),
  )
}

/** Rows of a table of manifest keys: key, default, meaning. */
export function manifestRows(schema: TObject): string[] {
  return settingLeaves(schema).map(({ key, preset, description }) =>
    row(code(key), code(preset), description),
  )
}

function row(...cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`.replaceAll(/ {2,}/g, ' ')
}

function code(text: string): string {
  return text === '' ? '' : `\`${text}\``
}
