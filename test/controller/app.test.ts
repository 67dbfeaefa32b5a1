/** Holds the controller as a whole to its stores: its own over mTLS, and a real etcd. */

import t from 'tap'
import { systemClock as clock, systemRandom as random } from '#shared/lifecycle/clock.ts'
import { must, parseHostName } from '#shared/model/names.ts'
import { makeCsr } from '#shared/pki/csr.ts'
import { generateKey, keyToPem } from '#shared/pki/keys.ts'
import { ControllerClient } from '#shared/rpc/controller-client.ts'
import type { EnrolReply } from '#shared/rpc/host-messages.ts'
import { fetchPinnedRoot } from '#shared/rpc/pinned-root.ts'
import { parseJoinToken } from '#shared/pki/join-token.ts'
import { openEtcd } from '#shared/store/etcd.ts'
import { hostKey, tokensPrefix } from '#shared/store/keys.ts'
import { startController } from '#test/support/controller.ts'
import type { RunningController } from '#test/support/controller.ts'
import { TestEtcd, noEtcd } from '#test/support/etcd.ts'
import { testDirectory } from '#test/support/test-directory.ts'
import { until } from '#test/support/until.ts'

const host = must(parseHostName('h1'))

/** Enrols h1 the way an agent does. */
async function enrol(
  controller: RunningController,
): Promise<EnrolReply & { readonly keyPem: string }> {
  const token = await controller.token()
  const { address } = controller
  const { rootHash } = must(parseJoinToken(token))
  const bundlePem = await fetchPinnedRoot({ address, hash: rootHash })
  const client = new ControllerClient(
    { clock, credential: { bundlePem }, expected: { kind: 'first-controller' } },
    { address },
  )
  const key = await generateKey()
  const csr = await makeCsr(key)
  try {
    const reply = await client.call('Enrolment', 'Enrol', { token, csr, host })
    return { ...reply, keyPem: keyToPem(key) }
  } finally {
    client.close()
  }
}

t.test('an enrolled host reads its record in the embedded store, and no token', async (t) => {
  const controller = await startController(testDirectory(t))
  t.teardown(() => controller.stop())
  const { certificate, mesh, keyPem } = await enrol(controller)
  const { endpoints, serverName } = mesh.store
  const { chainPem } = certificate
  const open = (name: string, timeoutMs: number): ReturnType<typeof openEtcd> => {
    const tls = { rootPem: mesh.trustBundlePem, chainPem, keyPem, serverName: name }
    return openEtcd({ clock, random }, { endpoints, tls, timeoutMs })
  }
  const store = open(serverName, 30_000)
  t.match((await store.get(hostKey(host))).entry, { value: /h1/ })
  await t.rejects(store.list(tokensPrefix), { code: 'store-denied' })
  await t.rejects(store.put(hostKey(host), '{}'), { code: 'store-denied' })
  store.close()
  const elsewhere = open('c2.controller.mesh.internal', 3000)
  await t.rejects(elsewhere.get(hostKey(host)), { code: /store-(unavailable|timeout)/ })
  elsewhere.close()
})

t.test('stopping is prompt while a host watches the store', async (t) => {
  const controller = await startController(testDirectory(t))
  const { certificate, mesh, keyPem } = await enrol(controller)
  const { endpoints, serverName } = mesh.store
  const { chainPem } = certificate
  const tls = { rootPem: mesh.trustBundlePem, chainPem, keyPem, serverName }
  const store = openEtcd({ clock, random }, { endpoints, tls })
  t.teardown(() => store.close())
  const ended = new Promise<Error>((resolve) => {
    const sink = { onEvents() {}, onProgress() {}, onEnd: resolve }
    store.watch('/mesh/v1/', 1, sink).requestProgress()
  })
  await store.get(hostKey(host))
  await controller.stop()
  t.match(await ended, { code: 'store-unavailable' })
})

t.test(
  'with a real etcd the same enrolment works and the mesh is told its URLs',
  { skip: noEtcd ?? false },
  async (t) => {
    const directory = testDirectory(t, {})
    const etcd = await TestEtcd.start(`${directory}/etcd`)
    t.teardown(() => etcd.kill())
    const store = { kind: 'etcd', endpoints: [etcd.url] } as const
    const controller = await startController(directory, { store })
    t.teardown(() => controller.stop())
    t.equal(controller.ports.store, 0)
    const { mesh } = await enrol(controller)
    t.same(mesh.store, { kind: 'etcd', endpoints: [etcd.url], serverName: '' })
    const client = openEtcd({ clock, random }, { endpoints: [etcd.url] })
    t.match((await client.get(hostKey(host))).entry, { value: /h1/ })
    client.close()
  },
)

t.test('a controller whose store is away is not ready, says why, and goes on asking', async (t) => {
  // Nobody listens on port 1 of loopback.
  const store = { kind: 'etcd', endpoints: ['http://127.0.0.1:1'] } as const
  const controller = await startController(testDirectory(t), { store })
  t.teardown(() => controller.stop())
  const reply = await fetch(`http://127.0.0.1:${controller.ports.metrics}/readyz`)
  t.equal(reply.status, 503)
  t.match(await reply.text(), /waits for the store at http:\/\/127\.0\.0\.1:1: .*ECONNREFUSED/)
  const warnings = controller.lines.filter(({ level }) => level === 'warn')
  t.ok(warnings.some(({ msg }) => /http:\/\/127\.0\.0\.1:1 does not answer/.test(String(msg))))
  t.notOk(controller.lines.some(({ msg }) => msg === 'ready'))
})

t.test(
  'a controller that advertises a name of loopback says that no host can reach it',
  async (t) => {
    const controller = await startController(testDirectory(t), { advertise: 'localhost' })
    t.teardown(() => controller.stop())
    await until('it is said', () =>
      controller.lines.some(({ msg }) => /localhost leads only to/.test(String(msg))),
    )
  },
)
