import { execFile } from 'node:child_process'
import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import type { Test } from 'tap'
import { systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import { must } from '#shared/model/names.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import { parseSpiffeId } from '#shared/model/spiffe-id.ts'
import { Etcd3Rpc } from '#shared/store/etcd-rpc.ts'
import { openEtcd } from '#shared/store/etcd.ts'
import type { KeyValue } from '#shared/store/key-value.ts'
import { Seen } from '#test/contract/key-value.ts'
import type { ServedStore } from '#test/support/embedded-store.ts'
import { serveStore } from '#test/support/embedded-store.ts'
import { noEtcd, TestEtcd } from '#test/support/etcd.ts'
import { testDirectory } from '#test/support/test-directory.ts'

const run = promisify(execFile)
const denied = { code: 'store-denied', message: /permission denied/ }
const hostA = must(parseSpiffeId('spiffe://mesh.internal/host/a'))
const hostB = must(parseSpiffeId('spiffe://mesh.internal/host/b'))

function open(served: ServedStore): KeyValue {
  return openEtcd({ clock: systemClock, random: systemRandom }, { endpoints: [served.url] })
}

t.test('a host is held to its own keys, leases and the mesh', async (t) => {
  let caller: SpiffeId | null = hostA
  const served = await serveStore(join(testDirectory(t), 'store.db'), { identify: () => caller })
  const client = open(served)
  t.teardown(async () => {
    client.close()
    await served.stop()
  })
  await served.store.keyValue.put('/mesh-controller/v1/tokens/x', 'secret')
  const { lease } = await client.grantLease(30_000)
  await client.put('/mesh/v1/presence/a', 'a', { lease })
  await t.rejects(client.put('/mesh/v1/presence/b', 'b'), denied)
  await t.rejects(client.delete('/mesh/v1/presence/b'), denied)
  await t.rejects(client.get('/mesh-controller/v1/tokens/x'), denied)
  await t.rejects(client.list('/'), denied)
  await t.rejects(client.compact(2), denied)
  const steal = client.transact({
    compare: [],
    success: [{ kind: 'get', key: '/mesh-controller/v1/tokens/x' }],
  })
  await t.rejects(steal, denied)
  t.equal((await client.list('/mesh/v1/')).entries.length, 1)

  caller = hostB
  await t.rejects(client.revokeLease(lease), denied)
  await t.rejects(client.keepAlive(lease), denied)
  await t.rejects(client.put('/mesh/v1/presence/b', 'b', { lease }), denied)
  await client.put('/mesh/v1/presence/b', 'b')
  t.equal((await client.get('/mesh/v1/presence/a')).entry?.value, 'a')

  caller = null
  await t.rejects(client.get('/mesh/v1/presence/a'), denied)
  await t.rejects(client.grantLease(30_000), denied)
})

t.test('a denied watch is told so, and does no harm to the next', async (t) => {
  const served = await serveStore(join(testDirectory(t), 'store.db'), { identify: () => hostA })
  const client = open(served)
  t.teardown(async () => {
    client.close()
    await served.stop()
  })
  const refused = new Seen()
  client.watch('/mesh-controller/v1/', 1, refused)
  t.match(await refused.untilEnd(), denied)
  const allowed = new Seen()
  const watch = client.watch('/mesh/v1/', 1, allowed)
  await client.put('/mesh/v1/presence/a', 'a')
  await allowed.until((events) => events.length === 1)
  watch.cancel()
  t.match(allowed.events, [{ kind: 'put', entry: { value: 'a' } }])
})

t.test('an identity that cannot be told is no identity', async (t) => {
  const served = await serveStore(join(testDirectory(t), 'store.db'), {
    identify: () => {
      throw new Error('no such connection')
    },
  })
  const client = open(served)
  t.teardown(async () => {
    client.close()
    await served.stop()
  })
  await t.rejects(client.get('a'), denied)
  const seen = new Seen()
  client.watch('a', 1, seen)
  t.match(await seen.untilEnd(), denied)
})

const etcdctl = '/usr/bin/etcdctl'
const skip = existsSync(etcdctl) ? false : `${etcdctl} is not installed (Debian: etcd-client)`

/** What must read the same whichever store it is. */
async function tryEtcdctl(t: Test, store: KeyValue, port: number): Promise<void> {
  const ctl = (...args: readonly string[]): Promise<string> => etcdctlOn(port, ...args)
  await store.put('/mesh/v1/presence/a', 'A')
  await store.put('/mesh/v1/presence/b', 'B')
  await store.put('/other', 'C')
  t.equal(
    await ctl('get', '--prefix', '/mesh/v1/'),
    '/mesh/v1/presence/a\nA\n/mesh/v1/presence/b\nB\n',
  )
  t.equal(await ctl('put', '/mesh/v1/presence/a', 'A2'), 'OK\n')
  t.equal(await ctl('get', '--print-value-only', '/mesh/v1/presence/a'), 'A2\n')
  t.equal(await ctl('del', '--prefix', '/mesh/v1/presence/'), '2\n')
  const granted = await ctl('lease', 'grant', '60')
  t.match(granted, /^lease [0-9a-f]+ granted with TTL\(60s\)\n$/)
  const [, lease = ''] = granted.split(' ')
  t.match(await ctl('lease', 'list'), new RegExp(`^found 1 leases\\n${lease}\\n$`))
  t.match(
    await ctl('lease', 'timetolive', lease),
    /granted with TTL\(60s\), remaining\((?:60|[1-5]\d)s\)/,
  )
  t.match(await ctl('endpoint', 'status', '-w', 'json'), /"version":"3\.4\.\d+"/)
  const file = join(testDirectory(t), 'snapshot')
  t.match(await ctl('snapshot', 'save', file), /Snapshot saved at /)
  t.ok(statSync(file).size > 4096)
}

async function etcdctlOn(port: number, ...args: readonly string[]): Promise<string> {
  const options = { env: { ETCDCTL_API: '3' }, timeout: 60_000 }
  return (await run(etcdctl, ['--endpoints', `127.0.0.1:${port}`, ...args], options)).stdout
}

t.test('etcdctl works against the embedded store', { skip }, async (t) => {
  const served = await serveStore(join(testDirectory(t), 'store.db'))
  t.teardown(() => served.stop())
  await t.test('as against etcd', (t) => tryEtcdctl(t, served.store.keyValue, served.port))
  await t.rejects(etcdctlOn(served.port, 'member', 'list'), /Unimplemented/)
  await t.rejects(etcdctlOn(served.port, 'user', 'list'), /Unimplemented/)
})

t.test('etcdctl works against a real etcd', { skip: skip || (noEtcd ?? false) }, async (t) => {
  const etcd = await TestEtcd.start(join(testDirectory(t), 'etcd'))
  const parts = { clock: systemClock, random: systemRandom }
  const client = openEtcd(parts, { endpoints: [etcd.url] })
  t.teardown(async () => {
    client.close()
    await etcd.kill()
  })
  await t.test('as against ours', (t) => tryEtcdctl(t, client, Number(new URL(etcd.url).port)))
})

t.test('only controllers and operators take snapshots, list leases and compact', async (t) => {
  let caller: SpiffeId | null = hostA
  const served = await serveStore(join(testDirectory(t), 'store.db'), { identify: () => caller })
  const parts = { clock: systemClock, random: systemRandom }
  const rpc = new Etcd3Rpc(parts, { endpoints: [served.url] })
  t.teardown(async () => {
    rpc.close()
    await served.stop()
  })
  const call = { timeoutMs: 5000 }
  const take = async (): Promise<number> => {
    let pieces = 0
    for await (const piece of rpc.snapshot(call)) pieces += piece.blob.length > 0 ? 1 : 0
    return pieces
  }
  const refused = /permission denied/
  await t.rejects(take(), { message: refused })
  await t.rejects(rpc.leaseLeases(call), { message: refused })
  t.ok(await rpc.status(call))
  caller = must(parseSpiffeId('spiffe://mesh.internal/operator/admin'))
  t.ok((await take()) > 1)
  t.match(await rpc.leaseLeases(call), { leases: [] })
  caller = must(parseSpiffeId('spiffe://mesh.internal/service/orders'))
  await t.rejects(take(), { message: refused })
  await t.rejects(rpc.status(call), { message: refused })
})
