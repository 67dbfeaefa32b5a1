/** Runs the contract of `KeyValue` against every store there is. */

import { join } from 'node:path'
import t from 'tap'
import { systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import type { KeyValue } from '#shared/store/key-value.ts'
import { openEtcd } from '#shared/store/etcd.ts'
import { openStore, serveStore } from '#test/support/embedded-store.ts'
import { noEtcd, TestEtcd } from '#test/support/etcd.ts'
import { testDirectory } from '#test/support/test-directory.ts'
import { keyValueContract } from './key-value.ts'

function client(url: string): KeyValue {
  return openEtcd({ clock: systemClock, random: systemRandom }, { endpoints: [url] })
}

t.test('the embedded store, called directly', async (t) => {
  const store = openStore(join(testDirectory(t), 'store.db'))
  t.teardown(() => store.stop())
  await keyValueContract(t, () => store.keyValue)
})

t.test('the embedded store, over gRPC', async (t) => {
  const served = await serveStore(join(testDirectory(t), 'store.db'))
  t.teardown(() => served.stop())
  await keyValueContract(t, () => client(served.url))
})

t.test('a real etcd', { skip: noEtcd ?? false }, async (t) => {
  const etcd = await TestEtcd.start(join(testDirectory(t), 'etcd'))
  t.teardown(() => etcd.kill())
  await keyValueContract(t, () => client(etcd.url))
})
