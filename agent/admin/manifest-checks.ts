/**
 * Owns the checks of what was dropped on this host: manifests, their instances, and the services they
 * cannot do without. Pure, like all checks.
 */

import type { ManifestReport } from '#shared/model/admin-services.ts'
import type { AgentFacts } from '#shared/model/admin.ts'
import { bad, lines, list, ok, type Check } from './judgement.ts'

/** Services that manifests name and nobody serves, with the file that names them. */
function withoutInstance(
  { manifests, services }: AgentFacts,
  namesOf: (manifest: ManifestReport) => readonly string[],
): readonly string[] {
  const known = new Set(
    services.flatMap(({ name, instances }) =>
      instances.flatMap(({ ports = [] }) => [
        name,
        ...ports.flatMap((port) => (port.down === true ? [] : [`${port.name}.${name}`])),
      ]),
    ),
  )
  return manifests.flatMap((manifest) =>
    namesOf(manifest)
      .filter((name) => !known.has(name))
      .map((name) => `${name} (${manifest.file})`),
  )
}

/** The first problem of a file, and how many there are. */
function inOneLine({ file, problems }: ManifestReport): string {
  const [first = `${file}: rejected`, ...others] = problems
  return others.length === 0 ? first : `${first} (and ${others.length} more in this file)`
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
            lines(rejected.map(inOneLine), 'meshctl manifest status'),
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
        ({ verdict, health, published, rotation }) =>
          verdict === 'accepted' && health === 'passing' && rotation === 'in' && !published,
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
    name: 'protocols-match',
    judge: ({ manifests }) => {
      const wrong = manifests.filter(({ mismatch }) => mismatch !== '')
      return wrong.length === 0
        ? ok('every service speaks as its manifest says')
        : bad(
            'failed',
            `${wrong.length} services speak otherwise than their manifests say`,
            list(wrong.map(({ service, mismatch }) => `${service}: ${mismatch}`)),
            'correct "protocol" in the manifest, or take it out: the agent asks by itself',
          )
    },
  },
  {
    name: 'in-rotation',
    judge: ({ manifests, status: { maintenance } }) => {
      const out = manifests.filter(({ rotation }) => rotation !== 'in')
      if (out.length === 0 && maintenance === null) return ok('nothing was taken out of rotation')
      const why = maintenance?.reason ?? ''
      return bad(
        'warning',
        `${out.length} services were taken out of rotation`,
        maintenance === null
          ? list(out.map(({ service }) => service))
          : `the whole host is in maintenance${why === '' ? '' : `: ${why}`}`,
        'put them back when the work is done: meshctl undrain SERVICE, or meshctl maintenance off',
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
