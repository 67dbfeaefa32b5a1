/** Owns the keys of a manifest that are published with the instance, for those who choose among instances. */

import { Type, type Static } from 'typebox'
import { labelsOf, type InstanceLabels } from '#shared/model/instance-labels.ts'
import { show } from './check.ts'
import type { Report } from './problem.ts'

/** The keys, for the schema of a manifest. */
export const labelKeys = {
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
}

type Raw = Static<ReturnType<typeof schema>>
const schema = () => Type.Object(labelKeys)

/** Reads the keys, reporting every fault. */
export function labelFacts(raw: Raw, report: Report): InstanceLabels {
  const { zone, version, tags = [], metadata } = raw
  for (const [index, tag] of tags.entries()) {
    if (tags.indexOf(tag) === index) continue
    report(`/tags/${index}`, { rule: 'duplicate-tag', message: `tag ${show(tag)} is given twice` })
  }
  return labelsOf({ zone, version, tags, metadata })
}
