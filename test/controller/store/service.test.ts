import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import { must } from '#shared/model/names.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import { parseSpiffeId } from '#shared/model/spiffe-id.ts'
import { openEtcd } from '#shared/store/etcd.ts'
import type { KeyValue } from '#shared/store/key-value.ts'
import { Seen } from '#test/contract/key-value.ts'
import type { ServedStore } from '#test/support/embedded-store.ts'
import { serveStore } from '#test/support/embedded-store.ts'

const run = promisify(execFile)
const denied = { code: 'store-denied', message: /permission denied/ }
const hostA = must(parseSpiffeId('spiffe://mesh.internal/host/a'))
const hostB = must(parseSpiffeId('spiffe://mesh.internal/host/b'))

function open(served: ServedStore): KeyValue {
  return openEtcd({ clock: systemClock, random: systemRandom }, { endpoints: [served.url] })
}

t.test('a host is held to its own keys, leases and the mesh', async (t) => {
  let caller: SpiffeId | null = hostA
  const served = await serveStore(join(t.testdir(), 'store.db'), { identify: () => caller })
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
  const served = await serveStore(join(t.testdir(), 'store.db'), { identify: () => hostA })
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
  const served = await serveStore(join(t.testdir(), 'store.db'), {
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

t.test('etcdctl works against the embedded store', { skip }, async (t) => {
  const served = await serveStore(join(t.testdir(), 'store.db'))
  t.teardown(() => served.stop())
  const ctl = async (...args: readonly string[]): Promise<string> => {
    const options = { env: { ETCDCTL_API: '3' }, timeout: 10_000 }
    const ran = await run(etcdctl, ['--endpoints', `127.0.0.1:${served.port}`, ...args], options)
    return ran.stdout
  }
  await served.store.keyValue.put('/mesh/v1/presence/a', 'A')
  await served.store.keyValue.put('/mesh/v1/presence/b', 'B')
  await served.store.keyValue.put('/other', 'C')
  t.equal(
    await ctl('get', '--prefix', '/mesh/v1/'),
    '/mesh/v1/presence/a\nA\n/mesh/v1/presence/b\nB\n',
  )
  t.equal(await ctl('put', '/mesh/v1/presence/a', 'A2'), 'OK\n')
  t.equal(await ctl('get', '--print-value-only', '/mesh/v1/presence/a'), 'A2\n')
  t.equal(await ctl('del', '--prefix', '/mesh/v1/presence/'), '2\n')
  t.match(await ctl('lease', 'grant', '60'), /^lease [0-9a-f]+ granted with TTL\(60s\)\n$/)
  t.match(await ctl('endpoint', 'status', '-w', 'json'), /"version":"3\.4\.0"/)
  await t.rejects(ctl('member', 'list'), /Unimplemented/)
  await t.rejects(ctl('user', 'list'), /Unimplemented/)
})
