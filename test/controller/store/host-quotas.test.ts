import { join } from 'node:path'
import t from 'tap'
import { hostLimits, HostQuotas } from '#controller/store/host-quotas.ts'
import { systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import { must, parseHostName } from '#shared/model/names.ts'
import { parseSpiffeId } from '#shared/model/spiffe-id.ts'
import { openEtcd } from '#shared/store/etcd.ts'
import { serveStore } from '#test/support/embedded-store.ts'
import { testDirectory } from '#test/support/test-directory.ts'

const host = must(parseHostName('a'))
const other = must(parseHostName('b'))
const keyOf = (id: number, of = 'a'): Buffer => Buffer.from(`/mesh/v1/instances/orders/${of}/${id}`)
const recordOf = (key: Buffer, bytes: number) => ({
  key,
  value: Buffer.alloc(bytes),
  createRevision: 2,
  modRevision: 2,
  version: 1,
  lease: '0',
})
const overQuota = { message: /permission denied: a host may have/ }

t.test('a record that is too large is refused, one that just fits is not', async (t) => {
  const quotas = new HostQuotas([])
  const put = (bytes: number) => ({ key: keyOf(1), value: Buffer.alloc(bytes) })
  quotas.checkPut(host, put(hostLimits.valueBytes), true)
  t.throws(() => quotas.checkPut(host, put(hostLimits.valueBytes + 1), true), overQuota)
})

t.test('a host has so many keys and no more, and may change those it has', async (t) => {
  const live = Array.from({ length: hostLimits.keys }, (_, id) => recordOf(keyOf(id), 1))
  const quotas = new HostQuotas(live)
  const put = { key: keyOf(hostLimits.keys), value: Buffer.from('x') }
  t.throws(() => quotas.checkPut(host, put, true), overQuota)
  quotas.checkPut(host, put, false)
  quotas.checkPut(other, put, true)
  const gone = recordOf(keyOf(0), 0)
  quotas.changed([{ record: { ...gone, version: 0 }, previous: recordOf(keyOf(0), 1) }])
  quotas.checkPut(host, put, true)
  t.throws(
    () => {
      quotas.changed([{ record: recordOf(keyOf(0), 1), previous: null }])
      const success = [{ request_put: put }]
      quotas.checkTxn(host, { success }, () => true)
    },
    overQuota,
    'in a transaction too',
  )
})

t.test('all records of a host together have their limit, in bytes', async (t) => {
  const each = 32 * 1024
  const count = Math.floor(hostLimits.bytes / (each + 100))
  const quotas = new HostQuotas(Array.from({ length: count }, (_, id) => recordOf(keyOf(id), each)))
  const put = { key: keyOf(count), value: Buffer.alloc(hostLimits.valueBytes) }
  t.throws(() => quotas.checkPut(host, put, true), overQuota)
  quotas.checkPut(other, put, true)
})

t.test('a served store holds hosts to their share, and nobody else', async (t) => {
  let caller = must(parseSpiffeId('spiffe://mesh.internal/host/a'))
  const file = join(testDirectory(t), 'store.db')
  const served = await serveStore(file, { identify: () => caller })
  const parts = { clock: systemClock, random: systemRandom }
  const client = openEtcd(parts, { endpoints: [served.url] })
  t.teardown(async () => {
    client.close()
    await served.stop()
  })
  const large = 'x'.repeat(hostLimits.valueBytes + 1)
  const denied = { code: 'store-denied', message: /at most/ }
  await t.rejects(client.put('/mesh/v1/presence/a', large), denied)
  await client.put('/mesh/v1/presence/a', 'a')
  await t.rejects(client.grantLease((hostLimits.leaseSeconds + 1) * 1000), {
    code: 'store-refused',
  })
  for (let i = 0; i < hostLimits.leases; i++) await client.grantLease(60_000)
  await t.rejects(client.grantLease(60_000), { message: /too many leases/ })
  caller = must(parseSpiffeId('spiffe://mesh.internal/host/b'))
  await client.grantLease(60_000)
  caller = must(parseSpiffeId('spiffe://mesh.internal/operator/o'))
  await client.put('/mesh/v1/presence/a', large)
})
