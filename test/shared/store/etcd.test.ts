import { once } from 'node:events'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import { createLogger } from '#shared/logging/logger.ts'
import { controllerDnsName, controllerId, hostId } from '#shared/model/spiffe-id.ts'
import { must, parseHostName } from '#shared/model/names.ts'
import { MtlsServer } from '#shared/rpc/mtls-server.ts'
import type { EtcdSettings, StoreTls } from '#shared/store/etcd.ts'
import { openEtcd } from '#shared/store/etcd.ts'
import type { KeyValue } from '#shared/store/key-value.ts'
import { makeTestCa } from '#test/support/certs.ts'
import type { TestCa } from '#test/support/certs.ts'
import { openStore, serveStore } from '#test/support/embedded-store.ts'
import { testDirectory } from '#test/support/test-directory.ts'

const name = must(parseHostName('one'))
const host = must(parseHostName('a'))

function open(t: Test, settings: EtcdSettings): KeyValue {
  const client = openEtcd({ clock: systemClock, random: systemRandom }, settings)
  t.teardown(() => client.close())
  return client
}

/** The embedded store behind the mesh's own TLS port; answers its port. */
async function serveWithTls(t: Test, ca: TestCa): Promise<number> {
  const logger = createLogger({ name: 'test', level: 'silent' })
  const server = new MtlsServer(
    { clock: systemClock, logger },
    {
      trustDomain: ca.trustDomain,
      listen: { host: '127.0.0.1', port: 0 },
      anonymous: false,
    },
  )
  const store = openStore(join(testDirectory(t), 'store.db'))
  store.serve(
    server.identified,
    (call) => server.identify(call),
    () => [],
  )
  const leaf = await ca.issue({
    id: controllerId(ca.trustDomain, name),
    dnsNames: [controllerDnsName(ca.trustDomain, name)],
  })
  server.setCredential({
    chainPem: leaf.chainPem,
    keyPem: leaf.keyPem,
    bundlePem: ca.bundlePem,
  })
  const { port } = await server.listen()
  t.teardown(async () => {
    await server.stop(0)
    await store.stop()
  })
  return port
}

async function hostTls(ca: TestCa): Promise<StoreTls> {
  const leaf = await ca.issue({ id: hostId(ca.trustDomain, host) })
  return {
    rootPem: ca.bundlePem,
    chainPem: leaf.chainPem,
    keyPem: leaf.keyPem,
    serverName: controllerDnsName(ca.trustDomain, name),
  }
}

t.test('over TLS, the store knows a host by its certificate', async (t) => {
  const ca = await makeTestCa()
  const port = await serveWithTls(t, ca)
  const endpoints = [`https://127.0.0.1:${port}`]
  const client = open(t, { endpoints, tls: await hostTls(ca) })
  await client.put('/mesh/v1/presence/a', 'mine')
  t.equal((await client.get('/mesh/v1/presence/a')).entry?.value, 'mine')
  await t.rejects(client.put('/mesh/v1/presence/b', 'theirs'), { code: 'store-denied' })
})

t.test('over TLS, a store that is not the one asked for is refused', async (t) => {
  const ca = await makeTestCa()
  const port = await serveWithTls(t, ca)
  const endpoints = [`https://127.0.0.1:${port}`]
  const good = await hostTls(ca)
  const unavailable = { code: 'store-unavailable' }
  const otherName = { ...good, serverName: 'two.controller.mesh.internal' }
  await t.rejects(open(t, { endpoints, tls: otherName }).get('a'), unavailable)
  const otherRoot = { ...good, rootPem: (await makeTestCa()).bundlePem }
  await t.rejects(open(t, { endpoints, tls: otherRoot }).get('a'), unavailable)
  const stranger = await hostTls(await makeTestCa())
  const ours = { ...stranger, rootPem: good.rootPem }
  await t.rejects(open(t, { endpoints, tls: ours }).get('a'), unavailable)
})

t.test('of several endpoints, the next is used after one failed', async (t) => {
  const served = await serveStore(join(testDirectory(t), 'store.db'))
  t.teardown(() => served.stop())
  const client = openEtcd(
    { clock: systemClock, random: { ...systemRandom, fraction: () => 0 } },
    { endpoints: ['http://127.0.0.1:9', served.url] },
  )
  t.teardown(() => client.close())
  await t.rejects(client.get('a'), { code: 'store-unavailable' })
  t.equal((await client.get('a')).entry, null)
  t.equal((await client.get('a')).entry, null, 'and stays in use')
})

t.test('a closed client refuses calls and watches', async (t) => {
  const served = await serveStore(join(testDirectory(t), 'store.db'))
  t.teardown(() => served.stop())
  const client = open(t, { endpoints: [served.url] })
  client.close()
  client.close()
  await t.rejects(client.get('a'), { code: 'store-unavailable' })
  const error = await new Promise((resolve) => {
    client.watch('a', 1, { onEvents: () => {}, onProgress: () => {}, onEnd: resolve })
  })
  t.match(error, { code: 'store-unavailable' })
})

t.test('a server that hangs is given up in time, and left without a socket', async (t) => {
  const ca = await makeTestCa()
  for (const scheme of ['http', 'https']) {
    let connections = 0
    const silent = createServer((socket) => {
      connections += 1
      socket.on('error', () => {})
      socket.resume()
    }).listen(0, '127.0.0.1')
    await once(silent, 'listening')
    const { port } = silent.address() as AddressInfo
    const endpoints = [`${scheme}://127.0.0.1:${port}`]
    const client = open(t, { endpoints, tls: await hostTls(ca) })
    await t.rejects(client.get('a', { timeoutMs: 1000 }), { code: 'store-timeout' })
    client.close()
    silent.close()
    await once(silent, 'close')
    t.ok(connections > 0, `${scheme}: every connection ended with its client`)
  }
})
