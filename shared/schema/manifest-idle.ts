/**
 * Owns what a manifest must not say for nothing: keys without effect where no service is served or where
 * it is outside, and a manifest that asks for nothing at all. Judged by the keys that are written.
 */

import { show } from './check.ts'
import type { JsonDocument } from './json-document.ts'
import type { JsonValue } from './json-reader.ts'
import type { Report } from './problem.ts'

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

/** Reports keys that have no effect beside the others. */
export function reportIdleKeys(document: JsonDocument, report: Report): void {
  const isServed = document.has('/port') || document.has('/ports')
  if (document.has('/external')) {
    reportUnused(document, localKeys, 'in the manifest of an external service', report)
  } else if (!isServed) reportUnused(document, servingKeys, 'without a port', report)
}

/** Reports a manifest of which nothing follows. What is given but wrong was reported already. */
export function reportNothing(document: JsonDocument, report: Report): void {
  const { upstreams = {}, requires = [] } = document.value as {
    readonly upstreams?: JsonValue
    readonly requires?: JsonValue
  }
  const isNobody = ['port', 'ports', 'run', 'external'].every((key) => !document.has(`/${key}`))
  if (!isNobody || show(upstreams) !== '{}' || show(requires) !== '[]') return
  report('', {
    rule: 'nothing-to-do',
    message: 'neither a port nor an upstream nor a required service nor a user is given',
    hint: 'add "port": 8080 for a service, or "upstreams": {"orders": 9001} for a caller',
  })
}

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
