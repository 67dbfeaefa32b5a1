import t from 'tap'
import { must } from '#shared/model/names.ts'
import { parseSpiffeId } from '#shared/model/spiffe-id.ts'
import type { KeyRange } from '#shared/store/wire.ts'
import type { AccessFacts } from '#controller/store/access.ts'
import {
  accessOf,
  mayDelete,
  mayPut,
  mayRead,
  mayTransact,
  mayUseLease,
} from '#controller/store/access.ts'

const access = (id: string): ReturnType<typeof accessOf> => accessOf(must(parseSpiffeId(id)))
const hostId = 'spiffe://mesh.internal/host/a'
const host = access(hostId)
const range = (key: string, end = ''): KeyRange => ({
  key: Buffer.from(key, 'latin1'),
  range_end: Buffer.from(end, 'latin1'),
})
const facts: AccessFacts = {
  leaseOwner: (lease) =>
    new Map([
      ['1', hostId],
      ['2', 'spiffe://mesh.internal/host/b'],
      ['3', ''],
    ]).get(lease) ?? null,
  hostServices: (name) => (name === 'a' ? ['orders', 'web-*'] : []),
}

t.test('controllers and operators may do everything, services and strangers nothing', async (t) => {
  for (const id of ['controller/one', 'operator/jo']) {
    const all = access(`spiffe://mesh.internal/${id}`)
    t.ok(mayRead(all, range('\0', '\0')))
    t.ok(mayDelete(all, range('\0', '\0')))
    t.ok(mayPut(all, range('/mesh-controller/v1/x'), facts))
    t.ok(mayUseLease(all, '1', facts))
  }
  for (const nobody of [access('spiffe://mesh.internal/service/orders'), accessOf(null)]) {
    t.strictSame(nobody, { kind: 'nothing' })
    t.notOk(mayRead(nobody, range('/mesh/v1/', '/mesh/v10')))
    t.notOk(mayDelete(nobody, range('/mesh/v1/presence/a')))
    t.notOk(mayPut(nobody, range('/mesh/v1/presence/a'), facts))
    t.notOk(mayUseLease(nobody, '0', facts))
    t.notOk(mayTransact(nobody, {}, facts))
  }
})

t.test('a host reads the mesh and nothing outside it', async (t) => {
  for (const [key, end] of [
    ['/mesh/v1/', '/mesh/v10'],
    ['/mesh/v1/hosts/b', ''],
    ['/mesh/v1/instances/', '/mesh/v1/instances0'],
    ['/mesh/v1/z', '/mesh/v1/a'],
  ] as const) {
    t.ok(mayRead(host, range(key, end)), JSON.stringify([key, end]))
  }
  for (const [key, end] of [
    ['/mesh-controller/v1/tokens/x', ''],
    ['/mesh/v1/', '\0'],
    ['/mesh/v1/', '/mesh/v11'],
    ['/mesh/v1/', '/mesh/v10\0'],
    ['/mesh/v1/', '\xff'],
    ['/mesh/v1', '/mesh/v10'],
    ['/mesh/v1', ''],
    ['/mesh/v10', ''],
    ['/mesh-controller/', '/mesh/v1/z'],
    ['\0', '\0'],
    ['', ''],
  ] as const) {
    t.notOk(mayRead(host, range(key, end)), JSON.stringify([key, end]))
  }
})

t.test('a host writes its own instances and presence, one key at a time', async (t) => {
  for (const key of [
    '/mesh/v1/instances/orders/a/1',
    '/mesh/v1/instances/web-shop/a/1',
    '/mesh/v1/presence/a',
  ]) {
    t.ok(mayPut(host, range(key), facts), key)
    t.ok(mayDelete(host, range(key)), key)
  }
  for (const [key, end] of [
    ['/mesh/v1/instances/orders/b/1', ''],
    ['/mesh/v1/instances/a/b/1', ''],
    ['/mesh/v1/instances/orders/a/1/x', ''],
    ['/mesh/v1/instances/orders/a/', ''],
    ['/mesh/v1/instances/orders/a', ''],
    ['/mesh/v1/instances/../a/1', ''],
    ['/mesh/v1/instances/Orders/a/1', ''],
    ['/mesh/v1/instances/orders\0/a/1', ''],
    ['/mesh/v1/instances/orders/a/1\xff', ''],
    ['/mesh/v1/presence/b', ''],
    ['/mesh/v1/presence/a/', ''],
    ['/mesh/v1/hosts/a', ''],
    ['/mesh/v1/trust/a', ''],
    ['/mesh/v1/else/a', ''],
    ['/mesh-controller/v1/tokens/a', ''],
    ['/mesh/v1/presence/a', '/mesh/v1/presence/a\0'],
    ['/mesh/v1/presence/a', '/mesh/v1/presence/b'],
    ['', ''],
  ] as const) {
    t.notOk(mayPut(host, range(key, end), facts), JSON.stringify([key, end]))
    t.notOk(mayDelete(host, range(key, end)), JSON.stringify([key, end]))
  }
})

t.test('a host registers no service it may not speak for, but may take one away', async (t) => {
  const foreign = range('/mesh/v1/instances/billing/a/1')
  t.notOk(mayPut(host, foreign, facts))
  t.ok(mayDelete(host, foreign))
  const unknown = access('spiffe://mesh.internal/host/b')
  t.notOk(mayPut(unknown, range('/mesh/v1/instances/orders/b/1'), facts), 'a host without a record')
  t.ok(mayPut(unknown, range('/mesh/v1/presence/b'), facts))
})

t.test('a lease is for who granted it', async (t) => {
  t.ok(mayUseLease(host, '1', facts))
  t.notOk(mayUseLease(host, '2', facts))
  t.notOk(mayUseLease(host, '3', facts), 'the controller’s own')
  t.ok(mayUseLease(host, '4', facts), 'one that is gone is answered as gone')
})

t.test('a transaction is allowed only if every part of it is', async (t) => {
  const own = range('/mesh/v1/presence/a')
  const foreign = range('/mesh/v1/presence/b')
  const secret = range('/mesh-controller/v1/tokens/x')
  const allowed = (request: Parameters<typeof mayTransact>[1]): boolean =>
    mayTransact(host, request, facts)
  t.ok(
    allowed({
      compare: [foreign],
      success: [{ request_put: own }, { request_range: foreign }],
      failure: [{ request_delete_range: own }],
    }),
  )
  t.notOk(allowed({ compare: [secret] }), 'a comparison is a read')
  t.notOk(allowed({ success: [{ request_put: foreign }] }))
  t.notOk(allowed({ failure: [{ request_put: foreign }] }))
  t.notOk(allowed({ success: [{ request_delete_range: foreign }] }))
  t.notOk(allowed({ failure: [{ request_range: secret }] }))
  t.notOk(allowed({ success: [{ request_put: { ...own, lease: '2' } }] }), 'another’s lease')
  t.notOk(allowed({ success: [{ request_txn: { success: [{ request_put: foreign }] } }] }))
})
