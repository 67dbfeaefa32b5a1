import t from 'tap'
import { must } from '#shared/model/names.ts'
import { parseSpiffeId } from '#shared/model/spiffe-id.ts'
import type { KeyRange } from '#shared/store/wire.ts'
import { accessOf, mayRead, mayTransact, mayUseLease, mayWrite } from '#controller/store/access.ts'

const access = (id: string): ReturnType<typeof accessOf> => accessOf(must(parseSpiffeId(id)))
const hostId = 'spiffe://mesh.internal/host/a'
const host = access(hostId)
const range = (key: string, end = ''): KeyRange => ({
  key: Buffer.from(key, 'latin1'),
  range_end: Buffer.from(end, 'latin1'),
})
const none = (): null => null

t.test('controllers and operators may do everything, services and strangers nothing', async (t) => {
  for (const id of ['controller/one', 'operator/jo']) {
    const all = access(`spiffe://mesh.internal/${id}`)
    t.ok(mayRead(all, range('\0', '\0')))
    t.ok(mayWrite(all, range('\0', '\0')))
    t.ok(mayUseLease(all, '1', () => hostId))
  }
  for (const nobody of [access('spiffe://mesh.internal/service/orders'), accessOf(null)]) {
    t.strictSame(nobody, { kind: 'nothing' })
    t.notOk(mayRead(nobody, range('/mesh/v1/', '/mesh/v10')))
    t.notOk(mayWrite(nobody, range('/mesh/v1/presence/a')))
    t.notOk(mayUseLease(nobody, '0', none))
    t.notOk(mayTransact(nobody, {}, none))
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
  for (const key of ['/mesh/v1/instances/orders/a/1', '/mesh/v1/presence/a']) {
    t.ok(mayWrite(host, range(key)), key)
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
    t.notOk(mayWrite(host, range(key, end)), JSON.stringify([key, end]))
  }
})

t.test('a lease is for who granted it', async (t) => {
  const owners = new Map([
    ['1', hostId],
    ['2', 'spiffe://mesh.internal/host/b'],
    ['3', ''],
  ])
  const ownerOf = (lease: string): string | null => owners.get(lease) ?? null
  t.ok(mayUseLease(host, '1', ownerOf))
  t.notOk(mayUseLease(host, '2', ownerOf))
  t.notOk(mayUseLease(host, '3', ownerOf), 'the controller’s own')
  t.ok(mayUseLease(host, '4', ownerOf), 'one that is gone is answered as gone')
})

t.test('a transaction is allowed only if every part of it is', async (t) => {
  const own = range('/mesh/v1/presence/a')
  const foreign = range('/mesh/v1/presence/b')
  const secret = range('/mesh-controller/v1/tokens/x')
  const ownerOf = (): string => 'spiffe://mesh.internal/host/b'
  const allowed = (request: Parameters<typeof mayTransact>[1]): boolean =>
    mayTransact(host, request, ownerOf)
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
