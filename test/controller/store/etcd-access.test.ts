/** Access to a real etcd that asks for certificates: who may do what, once `store init` has run. */

import { execFileSync } from 'node:child_process'
import { readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { certList } from '#cli/cert.ts'
import { openStoreAsOperator } from '#cli/client/store.ts'
import { Printer } from '#cli/output/printer.ts'
import { storeCertificate } from '#cli/store-certificate.ts'
import { storeBackup, storeInit, storeStatus } from '#cli/store.ts'
import { systemClock as clock, systemRandom as random } from '#shared/lifecycle/clock.ts'
import { must, parseHostName, parseInstanceId, parseServiceName } from '#shared/model/names.ts'
import { makeCsr } from '#shared/pki/csr.ts'
import { generateKey, keyToPem } from '#shared/pki/keys.ts'
import { ControllerClient } from '#shared/rpc/controller-client.ts'
import type { EnrolReply } from '#shared/rpc/host-messages.ts'
import { readOperatorFile } from '#shared/rpc/operator-file.ts'
import { openEtcd } from '#shared/store/etcd.ts'
import {
  hostKey,
  instanceKey,
  presenceKey,
  presencePrefix,
  tokensPrefix,
} from '#shared/store/keys.ts'
import type { KeyValue } from '#shared/store/key-value.ts'
import { Seen } from '#test/contract/key-value.ts'
import { startController } from '#test/support/controller.ts'
import type { RunningController } from '#test/support/controller.ts'
import { noEtcd, TestEtcd } from '#test/support/etcd.ts'
import { findProgram } from '#cli/find-program.ts'
import { testDirectory } from '#test/support/test-directory.ts'
import { until } from '#test/support/until.ts'

t.setTimeout(300_000)

const [h1, h2] = [must(parseHostName('h1')), must(parseHostName('h2'))]
const [web, orders] = [must(parseServiceName('web')), must(parseServiceName('orders'))]
const id = must(parseInstanceId('1'))
const denied = { code: 'store-denied' }

/** A host of the mesh, as far as the store and the controller see it. */
interface Host {
  readonly store: KeyValue
  readonly enrolled: EnrolReply
  certify(service: string): Promise<string>
  close(): void
}

async function joinMesh(
  controller: RunningController,
  host: string,
  services: string[],
): Promise<Host> {
  const { address } = controller
  const { bundlePem } = await readOperatorFile(controller.operatorFile)
  const first = new ControllerClient(
    { clock, credential: { bundlePem }, expected: { kind: 'first-controller' } },
    { address },
  )
  const key = await generateKey()
  const csr = await makeCsr(key)
  // Users of etcd are made on the way, and a crowded machine may drop its connection.
  const enrolled = await until(`${host} has joined`, async () => {
    const token = await controller.token({ host, services })
    return first.call('Enrolment', 'Enrol', { token, csr, host })
  })
  first.close()
  const { chainPem } = enrolled.certificate
  const keyPem = keyToPem(key)
  const { trustDomain, trustBundlePem: rootPem, store } = enrolled.mesh
  const client = new ControllerClient(
    {
      clock,
      credential: { chainPem, keyPem, bundlePem: rootPem },
      expected: { kind: 'controller', trustDomain: trustDomain as never },
    },
    { address },
  )
  const { endpoints, serverName } = store
  const own = openEtcd(
    { clock, random },
    { endpoints, tls: { rootPem, chainPem, keyPem, serverName } },
  )
  return {
    store: own,
    enrolled,
    async certify(service) {
      const own = await makeCsr(await generateKey())
      return (await client.call('Certificates', 'IssueService', { service, csr: own })).chainPem
    },
    close() {
      own.close()
      client.close()
    },
  }
}

t.test(
  'an etcd with certificates of the mesh holds every host to its own keys',
  { skip: noEtcd ?? false },
  async (t) => {
    const directory = testDirectory(t)
    const tls = join(directory, 'tls')
    const texts: string[] = []
    const streams = { out: (text: string) => void texts.push(text), err: () => {} }
    const printer = new Printer({ streams }, { json: false })
    const options = [
      '--client-cert-auth',
      `--trusted-ca-file=${tls}/ca.pem`,
      `--cert-file=${tls}/server.pem`,
      `--key-file=${tls}/server.key`,
    ]
    const etcd = await TestEtcd.prepare(join(directory, 'etcd'), options)
    const store = { kind: 'etcd', endpoints: [etcd.url] } as const
    const controller = await startController(directory, { store })
    t.teardown(() => controller.stop())
    const operator = await controller.operator()
    t.teardown(() => operator.close())
    const parts = { controller: operator, printer }

    const node = { node: 'e1', addresses: ['127.0.0.1', 'e1.example'], directory: tls }
    t.equal(await storeCertificate(parts, node), 0)
    for (const option of options) t.ok(texts.join('').includes(option), option)
    t.match(texts.pop(), /--peer-cert-allowed-hostname=peer\.store\.mesh\.internal$/m)
    t.strictSame(readdirSync(tls), ['ca.pem', 'peer.key', 'peer.pem', 'server.key', 'server.pem'])
    t.equal(statSync(join(tls, 'server.key')).mode & 0o777, 0o600)
    t.notSame(readFileSync(join(tls, 'server.key')), readFileSync(join(tls, 'peer.key')))
    await etcd.start()
    t.teardown(() => etcd.kill())
    for (const run of [1, 2]) {
      t.equal(await storeInit(parts, { endpoints: [etcd.url] }), 0, `run ${run}`)
      t.match(
        texts.pop(),
        /^access control is on: controller\/c1, operator\/admin may do everything/,
      )
    }
    await until(
      'the controller has its store',
      () => controller.lines.some(({ msg }) => msg === 'ready'),
      { withinMs: 60_000 },
    )
    t.equal(await storeStatus(parts), 0)
    t.notMatch(texts.pop(), 'warning')

    const operatorFile = await readOperatorFile(controller.operatorFile)
    writeFileSync(join(tls, 'op.pem'), operatorFile.chainPem)
    writeFileSync(join(tls, 'op.key'), operatorFile.keyPem)
    const ctl = findProgram('etcdctl')
    /** As the operator; null where there is no such program. */
    const etcdctl = (...words: readonly string[]): string | null => {
      const files = [`--cacert=${tls}/ca.pem`, `--cert=${tls}/op.pem`, `--key=${tls}/op.key`]
      const env = { ETCDCTL_API: '3' }
      const all = [`--endpoints=${etcd.url}`, ...files, ...words]
      return ctl === null ? null : execFileSync(ctl, all, { env, encoding: 'utf8' })
    }

    const one = await joinMesh(controller, 'h1', ['web', 'web-*'])
    const two = await joinMesh(controller, 'h2', ['*'])
    t.teardown(() => {
      one.close()
      two.close()
    })
    t.equal(one.enrolled.mesh.store.serverName, 'store.mesh.internal')

    await t.test('it reads the mesh, and writes its own presence and nothing else', async (t) => {
      const { lease } = await one.store.grantLease(30_000)
      await one.store.put(presenceKey(h1), 'h1', { lease })
      t.match((await one.store.get(hostKey(h2))).entry, { value: /h2/ })
      await t.rejects(one.store.put(presenceKey(h2), 'x'), denied)
      await t.rejects(one.store.put(hostKey(h1), '{}'), denied)
      await t.rejects(one.store.delete(hostKey(h1)), denied)
      await t.rejects(one.store.list(tokensPrefix), denied)
      await t.rejects(one.store.list('/'), denied)
      await two.store.put(presenceKey(h2), 'h2')
      await t.rejects(two.store.revokeLease(lease), denied)
    })

    await t.test('a watch that is denied leaves the host’s other watches', async (t) => {
      const { revision } = await one.store.get(presenceKey(h2))
      const [before, refused, after] = [new Seen(), new Seen(), new Seen()]
      const watches = [
        one.store.watch(presencePrefix, revision + 1, before),
        one.store.watch(tokensPrefix, revision + 1, refused),
        one.store.watch(presencePrefix, revision + 1, after),
      ]
      t.match(await refused.untilEnd(), denied)
      await two.store.put(presenceKey(h2), 'again')
      for (const seen of [before, after])
        await seen.until((events) =>
          events.some((one) => one.kind === 'put' && one.entry.key === presenceKey(h2)),
        )
      for (const watch of watches) watch.cancel()
    })

    await t.test('it writes instances of services it holds a certificate for', async (t) => {
      const key = instanceKey(web, h1, id)
      await t.rejects(one.store.put(key, 'early'), denied)
      await until('web is certified', () => one.certify('web'))
      await one.store.put(key, 'mine')
      await one.store.transact({ compare: [], success: [{ kind: 'put', key, value: 'again' }] })
      await t.rejects(one.store.put(instanceKey(web, h2, id), 'not my host'), denied)
      await t.rejects(one.store.put(instanceKey(orders, h1, id), 'not my service'), denied)
      await t.rejects(one.certify('orders'), { code: 'service-not-allowed' })
      await t.rejects(two.store.put(key, 'not mine'), denied)
      await t.rejects(two.store.delete(key), denied)
      t.equal((await two.store.get(key)).entry?.value, 'again')
    })

    await t.test('a new record that allows less takes ranges back', async (t) => {
      await until('orders is certified', () => two.certify('orders'))
      await until('web is certified', () => two.certify('web'))
      await two.store.put(instanceKey(orders, h2, id), 'x')
      const again = await joinMesh(controller, 'h2', ['web'])
      t.teardown(() => again.close())
      await t.rejects(again.store.put(instanceKey(orders, h2, id), 'y'), denied)
      await again.store.put(instanceKey(web, h2, id), 'y')
    })

    await t.test('a service, a stranger and a node’s own certificate may do nothing', async (t) => {
      const { trustBundlePem: rootPem, store } = one.enrolled.mesh
      const files = { chainPem: readFileSync(`${tls}/server.pem`, 'utf8') }
      const keyPem = readFileSync(`${tls}/server.key`, 'utf8')
      const tlsOf = { rootPem, ...files, keyPem, serverName: store.serverName }
      const nobody = openEtcd({ clock, random }, { endpoints: store.endpoints, tls: tlsOf })
      t.teardown(() => nobody.close())
      await t.rejects(nobody.get(hostKey(h1)), { code: /store-(denied|refused)/ })
      const other = { ...tlsOf, serverName: 'h1.host.mesh.internal' }
      const wrong = openEtcd({ clock, random }, { endpoints: store.endpoints, tls: other })
      t.teardown(() => wrong.close())
      await t.rejects(wrong.get(hostKey(h1)), { code: /store-(unavailable|timeout)/ })
    })

    await t.test('a host takes no snapshot', async (t) => {
      await t.rejects(
        (async () => {
          for await (const piece of one.store.snapshot()) t.fail(`${piece.length} bytes`)
        })(),
        { code: /store-(denied|refused)/ },
      )
    })

    await t.test('the operator reads and backs it up, also with etcdctl', async (t) => {
      const asOperator = await openStoreAsOperator(parts, { credential: controller.operatorFile })
      t.teardown(() => asOperator.close())
      const file = join(directory, 'backup')
      t.equal(await storeBackup({ store: asOperator, printer }, { file }), 0)
      const out = etcdctl('get', '--prefix', '--keys-only', '/mesh/v1/presence/')
      if (out !== null) t.match(out, /^\/mesh\/v1\/presence\/h1$/m)
    })

    await t.test('access control that somebody has switched off is told of', async (t) => {
      if (etcdctl('auth', 'disable') === null) return
      t.equal(await storeStatus(parts), 0)
      const command = `meshctl store init --to ${etcd.url}`
      t.match(
        texts.pop(),
        `access control is off: every host may change everything; turn it on with ${command}`,
      )
      await one.store.put(presenceKey(h2), 'not mine')
      t.equal(await storeInit(parts, { endpoints: [etcd.url] }), 0)
      t.equal(await storeStatus(parts), 0)
      t.notMatch(texts.pop(), 'warning')
      await t.rejects(one.store.put(presenceKey(h2), 'not mine'), denied)
    })

    await t.test('the journal tells what was issued', async (t) => {
      texts.length = 0
      const all = { host: '', ended: false, limit: 0 }
      t.equal(await certList({ ...parts, now: () => clock.now() }, all), 0)
      const text = texts.join('')
      t.match(text, /^spiffe:\/\/mesh\.internal\/service\/web +h1 +[0-9a-f]+ .* in .* c1$/m)
      t.match(text, /^spiffe:\/\/mesh\.internal\/controller\/c1 +- /m)
      t.match(text, /^store\.mesh\.internal e1 +- /m)
      texts.length = 0
      await certList({ ...parts, now: () => clock.now() }, { ...all, host: 'h1', limit: 1 })
      t.equal(texts.join('').trim().split('\n').length, 2)
    })
  },
)
