/** A root replaced while three controllers share an etcd, and the one that leads is killed on the way. */

import { X509Certificate } from 'node:crypto'
import { execFileSync } from 'node:child_process'
import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { systemClock as clock, systemRandom as random } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import { must, parseHostName, parsePort, parseServiceName } from '#shared/model/names.ts'
import type { TrustReport } from '#shared/model/trust.ts'
import { makeCsr } from '#shared/pki/csr.ts'
import { generateKey, keyToPem } from '#shared/pki/keys.ts'
import { splitRecord } from '#shared/pki/signed-record.ts'
import { ControllerClient } from '#shared/rpc/controller-client.ts'
import type { RotationStatus } from '#shared/rpc/operator-messages.ts'
import { openOperatorClient } from '#shared/rpc/operator-file.ts'
import { encodeRecord } from '#shared/schema/records.ts'
import { decodeBundle, encodeTrust } from '#shared/schema/trust.ts'
import { openEtcd } from '#shared/store/etcd.ts'
import { bundleKey, presenceKey, rotationPrefix, trustReportKey } from '#shared/store/keys.ts'
import type { ControllerProcess } from '#test/support/controller-process.ts'
import { runController } from '#test/support/controller-process.ts'
import { noEtcd, TestEtcd } from '#test/support/etcd.ts'
import { until } from '#test/support/until.ts'
import { testDirectory } from '#test/support/test-directory.ts'

t.setTimeout(400_000)

const program = join(import.meta.dirname, '../../controller/main.ts')
const h1 = must(parseHostName('h1'))
const service = must(parseServiceName('web'))
const names = ['c1', 'c2', 'c3'] as const
type Name = (typeof names)[number]

t.test(
  'three controllers go to the next root together, though the leader is killed on the way',
  { skip: noEtcd ?? false },
  async (t) => {
    const directory = testDirectory(t, { c1: {}, c2: {}, c3: {} })
    const etcd = await TestEtcd.start(join(directory, 'etcd'))
    t.teardown(() => etcd.kill())
    const store = openEtcd({ clock, random }, { endpoints: [etcd.url] })
    t.teardown(() => store.close())
    const configOf = (name: Name) => ({ name, store: etcd.url, leafTtlSeconds: 90 })
    const running = new Map<Name, ControllerProcess>()
    const start = async (name: Name): Promise<void> => {
      const process = runController(join(directory, name), configOf(name))
      running.set(name, process)
      t.teardown(() => process.child.kill('SIGKILL'))
      await process.ready
    }
    const kill = async (name: Name): Promise<void> => {
      running.get(name)?.child.kill('SIGKILL')
      await running.get(name)?.ended
    }
    const asOperator = async <T>(
      name: Name,
      ask: (client: ControllerClient) => Promise<T>,
    ): Promise<T> => {
      const file = join(directory, name, 'state/operator.json')
      const client = await openOperatorClient({ clock }, { file })
      try {
        return await ask(client)
      } finally {
        client.close()
      }
    }
    const rotate = (name: Name, action: string): Promise<RotationStatus> =>
      asOperator(name, (client) => client.call('Operations', 'RotateRoot', { action }))
    const brought = (name: Name, action: string, phase: string) => async (): Promise<boolean> =>
      (await rotate(name, 'status')).phase === phase || (await rotate(name, action)).phase === phase
    const bundle = async () => {
      const { entry } = await store.get(bundleKey)
      const { epoch, body } = must(splitRecord(entry?.value ?? ''))
      return { epoch, ...must(decodeBundle(body)) }
    }

    await start('c1')
    for (const name of ['c2', 'c3'] as const) {
      const config = join(directory, name, 'controller.json')
      const asked = runController(join(directory, name), configOf(name), ['request-ca'])
      t.equal((await asked.ended).code, 0)
      const main = [program, '--config', config]
      const pem = execFileSync(process.execPath, [...main, 'request-ca'], { encoding: 'utf8' })
      const csr = Buffer.from(pem.replaceAll(/-----[^-]+-----|\s/g, ''), 'base64')
      const { certificatesPem } = await until(`${name} is admitted`, () =>
        asOperator('c1', (client) => client.call('Controllers', 'Admit', { name, csr })),
      )
      const answer = join(directory, `${name}.pem`)
      writeFileSync(answer, certificatesPem)
      execFileSync(process.execPath, [...main, 'accept-ca', answer])
      await start(name)
    }
    await until('all have their places', async () => {
      const { controllers, leader } = await asOperator('c1', (client) =>
        client.call('Controllers', 'ListControllers', {}),
      )
      return controllers.length === 3 && leader === 'c1'
    })
    const key = await generateKey()
    const csr = await makeCsr(key)
    const trustDomain = 'mesh.internal' as never
    const clientOf = async (name: Name, chainPem?: string): Promise<ControllerClient> => {
      const { api } = (await running.get(name)?.ready) ?? { api: 0 }
      const bundlePem = (await bundle()).roots.join('')
      const own = chainPem === undefined ? {} : { chainPem, keyPem: keyToPem(key) }
      return new ControllerClient(
        { clock, credential: { bundlePem, ...own }, expected: { kind: 'controller', trustDomain } },
        { address: `127.0.0.1:${api}` },
      )
    }
    let certificate = { chainPem: '' }
    await until('the host is enrolled', async () => {
      // A token whose call was ended may have been used up.
      const { token } = await asOperator('c1', (client) =>
        client.call('Operations', 'CreateToken', { host: h1, services: ['*'], ttlMs: 0 }),
      )
      const nobody = await clientOf('c2')
      try {
        ;({ certificate } = await nobody.call('Enrolment', 'Enrol', { token, csr, host: h1 }))
        return true
      } finally {
        nobody.close()
      }
    })
    const presence = { host: h1, address: '10.0.0.1', tunnelPort: must(parsePort(15008)) }
    await store.put(presenceKey(h1), encodeRecord({ ...presence, zone: '', version: '1' }))
    const report = (epoch: number): Promise<unknown> => {
      const said: TrustReport = {
        host: h1,
        epochs: { bundle: epoch, bans: 1 },
        held: {},
        handshakes: {},
        problem: '',
      }
      return store.put(trustReportKey(h1), encodeTrust(said))
    }
    const first = await bundle()
    await report(first.epoch)

    const refusal = (error: unknown): boolean =>
      error instanceof MeshError && error.code === 'rotation-no-root-key'
    await until('who has no key of the root begins nothing', () =>
      rotate('c2', 'begin').then(() => false, refusal),
    )
    await until('c1 begins', brought('c1', 'begin', 'distributing'))
    await until(
      'the others have asked, got their certificates and follow; the host is waited for alone',
      async () => {
        const statuses = await Promise.all(names.map((name) => rotate(name, 'status')))
        return statuses.every(({ phase, waitsFor }) => {
          return phase === 'distributing' && waitsFor.map(({ host }) => host).join() === 'h1'
        })
      },
    )
    await kill('c1')
    await report((await bundle()).epoch)
    const others = ['c2', 'c3'] as const
    await until(
      'another one leads on',
      async () => (await rotate('c2', 'status')).phase === 'reissuing',
    )
    const next = (await bundle()).roots[1] ?? ''
    const issuedBy = async (name: Name): Promise<X509Certificate> => {
      const client = await clientOf(name, certificate.chainPem)
      try {
        const { chainPem } = await client.call('Certificates', 'IssueService', { service, csr })
        const [, issuing = ''] = chainPem.split(/(?<=-----END CERTIFICATE-----\n)/)
        return new X509Certificate(issuing)
      } finally {
        client.close()
      }
    }
    await until(
      'the others issue under the next root, each by an intermediate of its own',
      async () => {
        const issuing = await Promise.all(others.map(issuedBy))
        const root = new X509Certificate(next).publicKey
        const different = new Set(issuing.map(({ fingerprint256 }) => fingerprint256))
        return issuing.every((one) => one.verify(root)) && different.size === others.length
      },
    )
    await report((await bundle()).epoch)
    await until('the old root goes without the one that made it', async () => {
      const { phase, roots } = await rotate('c3', 'status')
      await report((await bundle()).epoch)
      return phase === 'steady' && roots.length === 1
    })
    t.same((await bundle()).roots, [next])

    await start('c1')
    const slotsOf = (name: Name): string[] =>
      readdirSync(join(directory, name, 'state/ca')).filter((file) => file.endsWith('.pem'))
    await until('all are left with the next root, also the one that was killed', async () => {
      // One file for the root, one for the issuing key.
      if (names.some((name) => slotsOf(name).length !== 2)) return false
      const file = slotsOf('c1').find((one) => one.endsWith('root.pem')) ?? ''
      const pem = readFileSync(join(directory, 'c1/state/ca', file), 'utf8')
      return new X509Certificate(pem).fingerprint256 === new X509Certificate(next).fingerprint256
    })
    await until('what was said on the way is forgotten', async () => {
      const { entries } = await store.list(rotationPrefix)
      return entries.every(({ key }) => key.includes('/acting/'))
    })
    const keys = names.flatMap((name) =>
      readdirSync(join(directory, name, 'state/ca')).flatMap((file) => {
        const text = readFileSync(join(directory, name, 'state/ca', file), 'utf8')
        return text.match(/-----BEGIN PRIVATE KEY-----[^-]+-/g) ?? []
      }),
    )
    t.equal(keys.length, 4, 'one root key and three issuing keys')
    t.equal(new Set(keys).size, 4, 'no key is anywhere twice')

    const isUnderWay = async () => (await rotate('c3', 'status')).phase === 'distributing'
    await until('and once more', brought('c1', 'begin', 'distributing'))
    await until('another controller knows', isUnderWay)
    await until('given up at another controller', brought('c3', 'abort', 'steady'))
    await until('everybody is back', async () => {
      const statuses = await Promise.all(names.map((name) => rotate(name, 'status')))
      return statuses.every(({ phase, roots }) => phase === 'steady' && roots.length === 1)
    })
    t.same((await bundle()).roots, [next])
  },
)
