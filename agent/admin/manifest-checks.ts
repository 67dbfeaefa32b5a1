/**
 * Owns the checks of what was dropped on this host: manifests, their instances, and the services they
 * cannot do without. Pure, like all checks.
 */

import type { AgentFacts, ManifestReport } from '#shared/model/admin.ts'
import { bad, list, ok, type Check } from './judgement.ts'

/** Services that manifests name and nobody serves, with the file that names them. */
function withoutInstance(
  { manifests, services }: AgentFacts,
  namesOf: (manifest: ManifestReport) => readonly string[],
): readonly string[] {
  const known = new Set(
    services.filter(({ instances }) => instances.length > 0).map(({ name }) => name),
  )
  return manifests.flatMap((manifest) =>
    namesOf(manifest)
      .filter((name) => !known.has(name))
      .map((name) => `${name} (${manifest.file})`),
  )
}

/** In the order they are shown. */
export const manifestChecks: readonly Check[] = [
  {
    name: 'manifests',
    judge: ({ manifests, status: { manifestDirectory } }) => {
      const { path, problem } = manifestDirectory
      const rejected = manifests.filter(({ verdict }) => verdict === 'rejected')
      if (rejected.length === 0 && problem !== '')
        return bad(
          'warning',
          `${path}: ${problem}`,
          'the agent’s user cannot read the directory of manifests, or nobody has made it',
          `mkdir -p ${path}, readable by the agent’s user, or set paths.manifests in agent.json`,
        )
      return rejected.length === 0
        ? ok(`${manifests.length} accepted from ${path}`)
        : bad(
            'failed',
            `${rejected.length} of ${manifests.length} rejected`,
            list(rejected.flatMap(({ problems }) => problems)),
            'correct the file; it is read again by itself (meshctl manifest validate FILE)',
          )
    },
  },
  {
    name: 'instances-healthy',
    judge: ({ manifests }) => {
      const served = manifests.filter(({ health }) => health !== 'none')
      const failing = served.filter(({ health }) => health === 'failing')
      return failing.length === 0
        ? ok(`${served.length} local instances, none failing`)
        : bad(
            'failed',
            `${failing.length} of ${served.length} local instances fail their check`,
            list(failing.map(({ service, healthDetail }) => `${service}: ${healthDetail}`)),
            'start the service, or correct "port" and "health" in its manifest',
          )
    },
  },
  {
    name: 'instances-published',
    judge: ({ manifests }) => {
      const hidden = manifests.filter(
        ({ verdict, health, published }) =>
          verdict === 'accepted' && health === 'passing' && !published,
      )
      return hidden.length === 0
        ? ok('every healthy instance is published')
        : bad(
            'warning',
            `${hidden.length} healthy instances are not published`,
            list(hidden.map(({ service }) => service)),
            'see service-certificates and store-session: both must be in order first',
          )
    },
  },
  {
    name: 'upstreams-known',
    judge: (facts) => {
      const lost = withoutInstance(facts, ({ upstreams }) => upstreams)
      return lost.length === 0
        ? ok('every upstream has an instance')
        : bad(
            'warning',
            `${lost.length} upstreams have no instance`,
            list(lost),
            'check the name, and meshctl check on the host that should serve it',
          )
    },
  },
  {
    name: 'requirements-met',
    judge: (facts) => {
      const lost = withoutInstance(facts, ({ requires }) => requires)
      return lost.length === 0
        ? ok('every required service has an instance')
        : bad(
            'failed',
            `${lost.length} required services have no instance`,
            list(lost),
            'bring the required service up, or take it out of "requires"',
          )
    },
  },
]
