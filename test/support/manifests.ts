/** Owns manifests for tests, read by the real reader from what a user would write. */

import type { Manifest } from '#shared/model/manifest.ts'
import type { Port } from '#shared/model/names.ts'
import { readManifest } from '#shared/schema/manifest.ts'
import { renderProblem } from '#shared/schema/problem.ts'

/** The manifest that `content` makes in `<name>.json`, `owner`'s or the administrator's; throws where it is not a good one. */
export function manifestOf<C extends object>(
  content: C,
  name = 'orders',
  settings: { readonly owner?: string } = {},
): Manifest & (C extends { port: number } ? { readonly port: Port } : unknown) {
  const bytes = Buffer.from(JSON.stringify(content))
  const reading = readManifest(`/etc/mesh.d/${name}.json`, bytes, settings)
  if (!reading.ok) throw new TypeError(reading.problems.map(renderProblem).join('\n'))
  return reading.manifest as ReturnType<typeof manifestOf<C>>
}
