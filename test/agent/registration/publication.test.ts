import t from 'tap'
import {
  publicationOf as publicationAfter,
  type Fitness,
  type Publication,
} from '#agent/registration/publication.ts'
import { isServing } from '#agent/registration/roster.ts'
import type { Manifest } from '#shared/model/manifest.ts'
import {
  must,
  parseHostName,
  parsePort,
  parsePortName,
  type HostName,
} from '#shared/model/names.ts'
import type { HostPresence } from '#shared/model/records.ts'
import { decodeMeshEntry } from '#shared/schema/records.ts'
import { manifestOf } from '#test/support/manifests.ts'

const host = must(parseHostName('a'))
const presence: HostPresence = {
  host,
  address: '10.0.0.1',
  tunnelPort: must(parsePort(15008)),
  zone: 'z',
  version: '0.1.0',
}
const fit: Fitness = { healthy: true, certified: true }

/** Decides about all of them, and about those that `before` had. */
function publicationOf(
  host: HostName,
  presence: HostPresence | null,
  manifests: readonly Manifest[],
  fitnessOf: (manifest: Manifest) => Fitness,
  before?: Publication,
): Publication {
  const all = new Map(manifests.map((manifest) => [manifest.service, manifest]))
  return publicationAfter(
    { host, presence },
    new Set([...all.keys(), ...(before?.made.keys() ?? [])]),
    (service) => {
      const manifest = all.get(service)
      if (manifest === undefined || !isServing(manifest)) return null
      return { manifest, fitness: fitnessOf(manifest) }
    },
    before,
  )
}

const orders = manifestOf({ port: 8080, weight: 7, protocol: 'tcp' })

t.test('a fit instance and the presence are published in records that can be read', async (t) => {
  const { desired, farewells, offered } = publicationOf(host, presence, [orders], () => fit)
  t.strictSame([...desired.keys()], ['/mesh/v1/presence/a', '/mesh/v1/instances/orders/a/1'])
  for (const [key, value] of desired) t.equal(decodeMeshEntry(key, value).ok, true, key)
  t.match(JSON.parse(desired.get('/mesh/v1/instances/orders/a/1') ?? ''), {
    service: 'orders',
    host: 'a',
    id: '1',
    protocol: 'tcp',
    port: 8080,
    weight: 7,
    state: 'up',
  })
  t.strictSame([...farewells.keys()], ['/mesh/v1/instances/orders/a/1'])
  t.match(JSON.parse([...farewells.values()][0] ?? ''), { service: 'orders', state: 'left' })
  t.match(offered, [{ service: 'orders', state: 'up' }])
})

t.test('what a manifest says of its instance is published with it', async (t) => {
  const said = { zone: 'r7', version: '1.2', tags: ['canary'], metadata: { team: 'x' } }
  const { desired, offered } = publicationOf(
    host,
    presence,
    [manifestOf({ port: 8080, ...said })],
    () => fit,
  )
  t.match(offered, [said])
  t.match(JSON.parse(desired.get('/mesh/v1/instances/orders/a/1') ?? ''), said)
})

t.test('an instance whose check warns takes part with its weight for that', async (t) => {
  const weightOf = (content: object) => {
    const warned = () => ({ ...fit, warning: true })
    const manifest = manifestOf({ port: 8080, ...content })
    return publicationOf(host, presence, [manifest], warned).offered[0]?.weight
  }
  t.equal(weightOf({ weight: 50, warningWeight: 5, health: { kind: 'push' } }), 5)
  t.equal(weightOf({ weight: 50 }), 50)
})

t.test('an instance is offered once it is known how it speaks, and says so', async (t) => {
  const asked = (more: Partial<Fitness>) =>
    publicationOf(host, presence, [manifestOf({ port: 8080 })], () => ({ ...fit, ...more }))
  t.equal(asked({ protocol: null }).withheld.get(orders.service), 'not-asked')
  t.match(asked({ protocol: 'tcp', finding: { speech: 'tls' } }).offered, [
    { protocol: 'tcp', speech: 'tls' },
  ])
  t.match(asked({}).offered, [{ protocol: 'http' }])
})

t.test('an instance that is not fit is withheld, with the reason', async (t) => {
  const cases = [
    [{ healthy: true, certified: false }, presence, 'no-certificate'],
    [{ healthy: false, certified: false }, presence, 'no-certificate'],
    [{ healthy: false, certified: true }, presence, 'not-healthy'],
    [{ ...fit, healthy: false, isOthers: true }, presence, 'others-port'],
    [{ ...fit, isOthers: true }, presence, 'others-port'],
    [fit, null, 'no-tunnel'],
  ] as const
  for (const [fitness, where, reason] of cases) {
    const { desired, offered, withheld } = publicationOf(host, where, [orders], () => fitness)
    t.equal(desired.size, where === null ? 0 : 1)
    t.strictSame(offered, [])
    t.equal(withheld.get(orders.service), reason)
  }
})

t.test('named ports are published, those that may not be called marked', async (t) => {
  const manifest = manifestOf({
    port: 8080,
    ports: { admin: 9090, rpc: { port: 9091, protocol: 'grpc' }, dead: 9092 },
  })
  const name = (text: string) => must(parsePortName(text))
  const ports = [
    { name: name('admin'), healthy: true, protocol: 'tcp' },
    { name: name('rpc'), healthy: true, protocol: 'tcp' },
    { name: name('dead'), healthy: true, protocol: null },
  ] as const
  const { offered, desired } = publicationOf(host, presence, [manifest], () => ({ ...fit, ports }))
  t.strictSame(offered[0]?.ports, [
    { name: 'admin', port: 9090, protocol: 'tcp' },
    { name: 'rpc', port: 9091, protocol: 'tcp' },
    { name: 'dead', port: 9092, protocol: 'http', down: true },
  ])
  for (const [key, value] of desired) t.equal(decodeMeshEntry(key, value).ok, true, key)
  const declared = publicationOf(
    host,
    presence,
    [manifestOf({ port: 1, protocol: 'tls' })],
    () => fit,
  )
  t.match(declared.offered, [{ protocol: 'tcp', application: 'tls' }])
})

t.test('what says the same again is the same object, and what does not is another', async (t) => {
  const users = manifestOf({ port: 8081, warningWeight: 5, health: { kind: 'push' } }, 'users')
  const before = publicationOf(host, presence, [orders, users], () => fit)
  const same = publicationOf(host, presence, [orders, users], () => ({ ...fit }), before)
  t.equal(same.offered[0], before.offered[0])
  for (const part of ['desired', 'farewells', 'offered', 'withheld'] as const) {
    t.equal(same[part], before[part], part)
  }
  const warned = publicationOf(
    host,
    presence,
    [orders, users],
    ({ service }) => ({ ...fit, warning: service === 'users' }),
    same,
  )
  t.equal(warned.offered[0], before.offered[0])
  t.not(warned.offered[1], before.offered[1])
  t.not(
    warned.desired.get('/mesh/v1/instances/users/a/1'),
    same.desired.get('/mesh/v1/instances/users/a/1'),
  )
  const joining = manifestOf({ port: 8082 }, 'joining')
  const unfit = publicationOf(
    host,
    presence,
    [orders, users, joining],
    ({ service }) => ({ ...fit, healthy: service !== 'joining' }),
    same,
  )
  t.strictSame([...unfit.withheld], [['joining', 'not-healthy']])
  for (const part of ['desired', 'farewells', 'offered'] as const) {
    t.equal(unfit[part], before[part], part)
  }
  const changed = manifestOf({ port: 8080, weight: 9, protocol: 'tcp' })
  const later = publicationOf(host, presence, [changed], () => fit, same)
  t.equal(later.offered[0]?.weight, 9)
})
