/**
 * Owns the checks of what was dropped on this host: manifests, their instances, and the services they
 * cannot do without. Pure, like all checks.
 */

import type { ManifestReport } from '#shared/model/admin-services.ts'
import type { AgentFacts } from '#shared/model/admin.ts'
import { ago, bad, lines, list, ok, type Check } from './judgement.ts'

/** Checks that have no verdict by then wait for somebody. */
const longStartMs = 10_000

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

/** What is not well with an instance that may be called all the same, or may be soon. */
function unwell(facts: AgentFacts, manifest: ManifestReport): readonly string[] {
  const { service, health, healthDetail, healthSinceMs, portsDown } = manifest
  if (health === 'none' || health === 'failing') return []
  const isLong = facts.status.nowMs - healthSinceMs >= longStartMs
  return [
    ...(health === 'warning' ? [`${service} warns: ${healthDetail}`] : []),
    ...(health === 'starting' && isLong
      ? [`${service} has no verdict for ${ago(facts, healthSinceMs)}: ${healthDetail}`]
      : []),
    ...portsDown.map((port) => `${service}: port ${port}`),
  ]
}

/** In the order they are shown. */
export const manifestChecks: readonly Check[] = [
  {
    name: 'manifests',
    judge: ({ manifests, status: { manifestDirectory } }) => {
      const { path, problem, cause, fix } = manifestDirectory
      const rejected = manifests.filter(({ verdict }) => verdict === 'rejected')
      if (rejected.length === 0 && problem !== '')
        return bad('warning', `${path}: ${problem}`, cause, fix)
      if (rejected.length === 0) return ok(`${manifests.length} accepted from ${path}`)
      const causes = lines(rejected.map(inOneLine), 'meshctl manifest status')
      const correct =
        'correct the file; it is read again by itself (meshctl manifest validate FILE)'
      return bad(
        'failed',
        `${rejected.length} of ${manifests.length} rejected`,
        problem === '' ? causes : `${causes}\n${path}: ${problem}`,
        problem === '' ? correct : `${correct}; ${fix}`,
      )
    },
  },
  {
    name: 'instances-healthy',
    judge: (facts) => {
      const served = facts.manifests.filter(({ health }) => health !== 'none')
      const failing = served.filter(({ health }) => health === 'failing')
      const others = served
        .map((manifest) => unwell(facts, manifest))
        .filter(({ length }) => length > 0)
      if (failing.length > 0) {
        const words = failing.map(({ service, healthDetail }) => `${service}: ${healthDetail}`)
        return bad(
          'failed',
          `${failing.length} of ${served.length} local instances fail their check`,
          list([...words, ...others.flat()]),
          'start the service, or correct "port" and "health" in its manifest',
        )
      }
      return others.length === 0
        ? ok(`${served.length} local instances, none failing`)
        : bad(
            'warning',
            `${others.length} of ${served.length} local instances do not pass all of their checks`,
            list(others.flat()),
            'see to what the check names; a push check waits for meshctl health pass SERVICE',
          )
    },
  },
  {
    name: 'instances-published',
    judge: ({ manifests }) => {
      const hidden = manifests.filter(
        ({ verdict, health, published, rotation }) =>
          verdict === 'accepted' &&
          (health === 'passing' || health === 'warning') &&
          rotation === 'in' &&
          !published,
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
