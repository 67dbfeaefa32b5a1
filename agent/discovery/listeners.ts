/** Owns which explicit listeners the manifests ask for. Pure. */

import type { Manifest } from '#shared/model/manifest.ts'
import type { ListenerView } from '#shared/model/snapshot.ts'

/** The listeners of all manifests in force, by port; a port is asked for once. */
export function listenersOf(manifests: readonly Manifest[]): readonly ListenerView[] {
  return manifests
    .flatMap(({ file, upstreams }) =>
      upstreams.map((upstream): ListenerView => ({ ...upstream, file })),
    )
    .sort((a, b) => a.port - b.port)
}
