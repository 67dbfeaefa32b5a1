/** A root replaced under an etcd that asks for certificates: the rotation goes on when etcd can. */

import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { Printer } from '#cli/output/printer.ts'
import { storeCertificate } from '#cli/store-certificate.ts'
import { storeInit } from '#cli/store.ts'
import type { RotationStatus } from '#shared/rpc/operator-messages.ts'
import { startController } from '#test/support/controller.ts'
import { noEtcd, TestEtcd } from '#test/support/etcd.ts'
import { until } from '#test/support/until.ts'
import { testDirectory } from '#test/support/test-directory.ts'

t.setTimeout(300_000)

const streams = { out: () => {}, err: () => {} }
const printer = new Printer({ streams }, { json: false })

t.test(
  'a rotation waits until etcd trusts the next root, and until it is certified under it',
  { skip: noEtcd ?? false },
  async (t) => {
    const directory = testDirectory(t)
    const tls = join(directory, 'tls')
    const etcd = await TestEtcd.prepare(join(directory, 'etcd'), [
      '--client-cert-auth',
      `--trusted-ca-file=${tls}/ca.pem`,
      `--cert-file=${tls}/server.pem`,
      `--key-file=${tls}/server.key`,
    ])
    const name = `etcd ${new URL(etcd.url).host}`
    const store = { kind: 'etcd', endpoints: [etcd.url] } as const
    const controller = await startController(directory, { store })
    t.teardown(() => controller.stop())
    const rotate = async (action: string): Promise<RotationStatus> => {
      const operator = await controller.operator()
      try {
        return await operator.call('Operations', 'RotateRoot', { action })
      } finally {
        operator.close()
      }
    }
    const certify = async (into: string): Promise<void> => {
      const operator = await controller.operator()
      try {
        const node = { node: 'e1', addresses: ['127.0.0.1'], directory: into }
        await storeCertificate({ controller: operator, printer }, node)
      } finally {
        operator.close()
      }
    }
    const waitsFor = (phase: string, why: RegExp) => async (): Promise<boolean> => {
      const status = await rotate('status')
      if (status.phase !== phase) return false
      const [one, ...others] = status.waitsFor
      return one?.host === name && why.test(one.why) && others.length === 0
    }

    await certify(tls)
    await etcd.start()
    t.teardown(() => etcd.kill())
    const operator = await controller.operator()
    await storeInit({ controller: operator, printer }, { endpoints: [etcd.url] })
    operator.close()
    const isReady = (): boolean => controller.lines.some(({ msg }) => msg === 'ready')
    await until('the controller has its store', isReady)

    await until('it begins', async () => {
      const { phase } = await rotate('status')
      return phase === 'distributing' || (await rotate('begin')).phase === 'distributing'
    })
    const untrusting = /does not trust the root that stays.*restart it/
    await until('etcd is told of', waitsFor('distributing', untrusting))
    const fresh = join(directory, 'fresh')
    await certify(fresh)
    copyFileSync(join(fresh, 'ca.pem'), join(tls, 'ca.pem'))
    await until('it reads its roots at a start', waitsFor('distributing', untrusting))
    await etcd.kill()
    await etcd.start()
    const ofTheFormer = /its certificate is of the root that goes/
    await until('now its certificate is waited for', waitsFor('reissuing', ofTheFormer))
    await certify(tls)
    await until('it is over', async () => {
      const { phase, roots } = await rotate('status')
      return phase === 'steady' && roots.length === 1
    })
    await certify(fresh)
    copyFileSync(join(fresh, 'ca.pem'), join(tls, 'ca.pem'))
    await etcd.kill()
    await etcd.start()
    await until('etcd and controller meet under the next root alone', async () => {
      return (await controller.token()) !== ''
    })
  },
)
