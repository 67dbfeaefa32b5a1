import * as fc from 'fast-check'
import { deepStrictEqual } from 'node:assert/strict'
import t from 'tap'
import { Catalog } from '#agent/discovery/catalog.ts'
import {
  must,
  parseHostName,
  parseInstanceId,
  parsePort,
  parsePortName,
} from '#shared/model/names.ts'
import { targetsOf } from '#shared/model/service-targets.ts'
import { entryOf, instanceOf, presenceOf } from '#test/support/mesh-records.ts'

const self = must(parseHostName('self'))

function catalogOf(...records: readonly Parameters<typeof entryOf>[0][]): Catalog {
  const catalog = new Catalog(self)
  for (const record of records) catalog.set(...entryOf(record))
  return catalog
}

/** `orders@a orders@b`, sorted. */
const places = (catalog: Catalog): string =>
  Object.values(catalog.services())
    .flatMap(({ name, instances }) => instances.map(({ host }) => `${name}@${host}`))
    .sort()
    .join(' ')

t.test('what instances say of themselves is seen by those who choose', async (t) => {
  const said = { zone: 'r7', version: '1.2', tags: ['canary'], metadata: { team: 'x' } }
  const catalog = catalogOf(presenceOf('a'), instanceOf('orders', 'a', said))
  t.match(catalog.services()['orders']?.instances, [{ host: 'a', ...said }])
})

t.test('services and hosts follow from the records', async (t) => {
  const catalog = catalogOf(
    presenceOf('b', { address: '10.0.0.2' }),
    presenceOf('a'),
    instanceOf('orders', 'b', { weight: 7 }),
    instanceOf('orders', 'a'),
    instanceOf('users', 'a', { protocol: 'tcp' }),
  )
  t.strictSame(catalog.services(), {
    orders: {
      name: 'orders',
      protocol: 'http',
      instances: [
        { host: 'a', id: '1', port: 8080, weight: 100 },
        { host: 'b', id: '1', port: 8080, weight: 7 },
      ],
    },
    users: {
      name: 'users',
      protocol: 'tcp',
      instances: [{ host: 'a', id: '1', port: 8080, weight: 100 }],
    },
  })
  t.strictSame(catalog.hosts(), {
    b: { name: 'b', address: '10.0.0.2', tunnelPort: 15008 },
    a: { name: 'a', address: '10.0.0.1', tunnelPort: 15008 },
  })
})

t.test('an address is whose it was first, and this host’s own is nobody else’s', async (t) => {
  const heldBy = (catalog: Catalog) =>
    Object.fromEntries(Object.values(catalog.hosts()).map((one) => [one.name, one.heldBy ?? '']))
  const catalog = catalogOf(
    presenceOf('b'),
    presenceOf('c', { address: '10.0.0.3' }),
    presenceOf('a'),
  )
  t.same(heldBy(catalog), { a: 'b', b: '', c: '' })
  catalog.set(...entryOf(presenceOf('b', { zone: 'r8' })))
  t.same(heldBy(catalog), { a: 'b', b: '', c: '' }, 'whoever says it again keeps it')
  catalog.set(...entryOf(presenceOf('c')))
  t.same(heldBy(catalog), { a: 'b', b: '', c: 'b' }, 'also from whoever moves there')
  catalog.set(...entryOf(presenceOf('b', { address: '10.0.0.2' })))
  catalog.set(...entryOf(presenceOf('b')))
  t.same(heldBy(catalog), { a: '', b: 'a', c: 'a' })
  const restarted = new Catalog(self)
  for (const [key, text] of catalog.texts) restarted.set(key, text)
  t.same(heldBy(restarted), heldBy(catalog), 'and over a restart')
  catalog.set('/mesh/v1/presence/a', undefined)
  t.same(heldBy(catalog), { b: 'c', c: '' }, 'until it goes')
  catalog.setOwn(presenceOf('self'), [])
  t.same(heldBy(catalog), { b: 'self', c: 'self', self: '' })
  catalog.setOwn(presenceOf('self', { address: '10.0.0.9' }), [])
  t.same(heldBy(catalog), { b: 'c', c: '', self: '' })
})

t.test('a banned host holds no address', async (t) => {
  const catalog = catalogOf(presenceOf('b'), presenceOf('a'))
  t.equal(catalog.hosts()['a']?.heldBy, 'b')
  catalog.setBanned(new Set(['b']))
  t.equal(catalog.hosts()['a']?.heldBy, undefined)
  t.equal(catalog.hosts()['b']?.heldBy, 'a')
  catalog.setBanned(new Set())
  t.equal(catalog.hosts()['a']?.heldBy, 'b')
})

t.test('an instance counts only while its host is present', async (t) => {
  const catalog = catalogOf(instanceOf('orders', 'a'), instanceOf('orders', 'b'), presenceOf('b'))
  t.equal(places(catalog), 'orders@b')
  catalog.set(...entryOf(presenceOf('a')))
  t.equal(places(catalog), 'orders@a orders@b')
  catalog.set('/mesh/v1/presence/b', undefined)
  t.equal(places(catalog), 'orders@a')
})

t.test('an instance that said it left is out at once', async (t) => {
  const catalog = catalogOf(presenceOf('a'), instanceOf('orders', 'a'))
  catalog.set(...entryOf(instanceOf('orders', 'a', { state: 'left' })))
  t.equal(places(catalog), '')
})

t.test('a service without instances keeps its name and protocol', async (t) => {
  const catalog = catalogOf(presenceOf('a'), instanceOf('mail', 'a', { protocol: 'tcp' }))
  catalog.services()
  catalog.set('/mesh/v1/instances/mail/a/1', undefined)
  t.strictSame(catalog.services(), { mail: { name: 'mail', protocol: 'tcp', instances: [] } })
})

t.test('a bad record is rejected alone, and the last good one stays', async (t) => {
  const catalog = catalogOf(presenceOf('a'), instanceOf('orders', 'a'))
  const [key] = entryOf(instanceOf('orders', 'a'))
  for (const text of ['', '{', '{"port": 0}', entryOf(instanceOf('users', 'a'))[1]]) {
    t.equal(catalog.set(key, text), false)
    t.match(catalog.problems.get(key), key)
    t.equal(places(catalog), 'orders@a')
  }
  t.equal(catalog.set('/mesh/v1/instances/UPPER/a/1', '{}'), false)
  t.equal(catalog.set('/mesh/v1/later/kind', 'anything'), true)
  t.equal(catalog.problems.size, 2)
  catalog.set('/mesh/v1/instances/UPPER/a/1', undefined)
  t.equal(catalog.set(...entryOf(instanceOf('orders', 'a'))), true)
  t.equal(catalog.problems.size, 0)
})

t.test('only what changed is another object', async (t) => {
  const catalog = catalogOf(
    presenceOf('a'),
    presenceOf('b'),
    instanceOf('orders', 'a'),
    instanceOf('users', 'b'),
  )
  const [services, hosts] = [catalog.services(), catalog.hosts()]
  catalog.set(...entryOf(instanceOf('orders', 'a')))
  catalog.set(...entryOf(presenceOf('a', { zone: 'elsewhere', version: '2' })))
  t.equal(catalog.services(), services)
  t.equal(catalog.hosts(), hosts)
  catalog.set(...entryOf(instanceOf('orders', 'b')))
  const after = catalog.services()
  t.not(after['orders'], services['orders'])
  t.equal(after['users'], services['users'])
  t.equal(catalog.hosts(), hosts)
  t.ok(Object.isFrozen(after) && Object.isFrozen(after['orders']?.instances[0]))
})

t.test('what this host offers comes from itself, not from the store', async (t) => {
  const catalog = catalogOf(
    presenceOf('self', { address: '10.9.9.9' }),
    instanceOf('ghost', 'self'),
  )
  t.equal(places(catalog), '')
  catalog.setOwn(presenceOf('self'), [instanceOf('orders', 'self')])
  t.equal(places(catalog), 'orders@self')
  t.match(catalog.hosts(), { self: { address: '10.0.0.1' } })
  const services = catalog.services()
  catalog.setOwn(presenceOf('self'), [instanceOf('orders', 'self')])
  t.equal(catalog.services(), services)
  catalog.setOwn(presenceOf('self'), [instanceOf('users', 'self')])
  t.equal(places(catalog), 'users@self')
  catalog.set('/mesh/v1/instances/users/self/1', undefined)
  t.equal(places(catalog), 'users@self')
})

t.test('during a change of protocol the majority counts', async (t) => {
  const catalog = catalogOf(presenceOf('a'), presenceOf('b'), presenceOf('c'))
  const put = (host: string, protocol: 'http' | 'tcp') => {
    catalog.set(...entryOf(instanceOf('orders', host, { protocol })))
    return catalog.services()['orders']?.protocol
  }
  t.equal(put('a', 'http'), 'http')
  t.equal(put('b', 'tcp'), 'tcp', 'a tie')
  t.equal(put('c', 'http'), 'http')
})

t.test('names that objects know by themselves are names like others', async (t) => {
  const catalog = catalogOf(presenceOf('constructor'), instanceOf('constructor', 'constructor'))
  t.equal(places(catalog), 'constructor@constructor')
})

t.test('any history of changes ends where its last values would', async () => {
  const name = fc.constantFrom('a', 'b', 'c')
  const record = fc.oneof(
    fc
      .tuple(name, name, fc.constantFrom('1', '2'), fc.integer({ min: 1, max: 9 }))
      .map(([service, host, id, weight]) =>
        instanceOf(service, host, {
          id: must(parseInstanceId(id)),
          weight,
          state: weight === 1 ? 'left' : 'up',
        }),
      ),
    fc
      .tuple(name, fc.integer({ min: 1, max: 2 }))
      .map(([host, port]) => presenceOf(host, { tunnelPort: must(parsePort(port)) })),
  )
  const step = fc.record({ record, gone: fc.boolean(), look: fc.boolean() })
  const filled = (catalog: Catalog) =>
    Object.fromEntries(
      Object.entries(catalog.services()).filter(([, { instances }]) => instances.length > 0),
    )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const lived = new Catalog(self)
      const last = new Map<string, string>()
      for (const { record, gone, look } of steps) {
        const [key, text] = entryOf(record)
        lived.set(key, gone ? undefined : text)
        if (gone) last.delete(key)
        else last.set(key, text)
        if (look) lived.services()
      }
      const fresh = new Catalog(self)
      for (const [key, text] of last) fresh.set(key, text)
      deepStrictEqual(lived.hosts(), fresh.hosts())
      deepStrictEqual(Object.keys(filled(lived)).sort(), Object.keys(filled(fresh)).sort())
      for (const [service, view] of Object.entries(filled(fresh))) {
        deepStrictEqual(lived.services()[service], view)
      }
      deepStrictEqual(lived.texts, last)
    }),
    { seed: 6, numRuns: 300 },
  )
})

t.test('named ports are told by their instances, and stay known while there is none', async (t) => {
  const ports = (entries: readonly (readonly [string, number, 'http' | 'tcp', true?])[]) => ({
    ports: entries.map(([name, port, protocol, down]) => ({
      name: must(parsePortName(name)),
      port: must(parsePort(port)),
      protocol,
      ...(down === undefined ? {} : { down }),
    })),
  })
  const a = instanceOf('orders', 'a', ports([['admin', 9090, 'tcp', true]]))
  const b = instanceOf('orders', 'b', ports([['admin', 9091, 'tcp']]))
  const catalog = catalogOf(presenceOf('a'), presenceOf('b'), a, b)
  const view = catalog.services()['orders']
  t.strictSame(view?.ports, [{ name: 'admin', protocol: 'tcp' }])
  const admin = view === undefined ? [] : targetsOf(view)
  t.match(
    admin.map(({ target, instances }) => [target, instances.map(({ host, port }) => [host, port])]),
    [
      [
        'orders',
        [
          ['a', 8080],
          ['b', 8080],
        ],
      ],
      ['admin.orders', [['b', 9091]]],
    ],
    'one that is down is not called',
  )
  for (const record of [a, b]) catalog.set(entryOf(record)[0], undefined)
  t.match(catalog.services()['orders'], { ports: [{ name: 'admin' }], instances: [] })
})
