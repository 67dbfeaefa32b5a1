/** Owns the rows of the reference pages in docs/ as the code would have them; a test compares. */

import type { MetricDefinition } from '#shared/metrics/names.ts'
import type { HostName, InstanceId, ServiceName } from '#shared/model/names.ts'
import type { RootName } from '#shared/model/trust.ts'
import { variablesOf } from '#shared/schema/config.ts'
import { settingLeaves } from '#shared/schema/setting-leaves.ts'
import type { TObject } from '#shared/schema/type.ts'
import * as keys from '#shared/store/keys.ts'

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

/** Every key of the store with placeholders for names, by the export of `keys.ts` that makes it. */
export function storeKeys(): Readonly<Record<string, string>> {
  const host = '<host>' as HostName
  const controller = '<controller>' as HostName
  const root = '<root>' as RootName
  return {
    instanceKey: keys.instanceKey('<service>' as ServiceName, host, '<id>' as InstanceId),
    presenceKey: keys.presenceKey(host),
    hostKey: keys.hostKey(host),
    controllerKey: keys.controllerKey(controller),
    bundleKey: keys.bundleKey,
    bansKey: keys.bansKey,
    policiesKey: keys.policiesKey,
    trustReportKey: keys.trustReportKey(host),
    leaderKey: keys.leaderKey,
    tokenKey: keys.tokenKey('<id>'),
    issuedKey: keys.issuedKey(0, '<serial>').replace(new Date(0).toISOString(), '<end>'),
    actingKey: keys.actingKey(controller),
    requestKey: keys.requestKey(root, controller),
    intermediateKey: keys.intermediateKey(root, controller),
  }
}

function row(...cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`.replaceAll(/ {2,}/g, ' ')
}

function code(text: string): string {
  return text === '' ? '' : `\`${text}\``
}
