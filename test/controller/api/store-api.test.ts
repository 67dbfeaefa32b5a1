/** Holds meshctl's store verbs and the controller's restore to their word, with a whole controller. */

import { join } from 'node:path'
import t from 'tap'
import { openStoreAsOperator } from '#cli/client/store.ts'
import { Printer } from '#cli/output/printer.ts'
import { storeBackup, storeStatus } from '#cli/store.ts'
import { hostsPrefix, tokensPrefix } from '#shared/store/keys.ts'
import { runController } from '#test/support/controller-process.ts'
import { startController } from '#test/support/controller.ts'
import { testDirectory } from '#test/support/test-directory.ts'

t.setTimeout(300_000)

t.test('an operator asks how the store is, backs it up, and the backup restores', async (t) => {
  const directory = testDirectory(t)
  const controller = await startController(directory)
  const operator = await controller.operator()
  const texts: string[] = []
  const streams = { out: (text: string) => void texts.push(text), err: () => {} }
  const printer = new Printer({ streams }, { json: false })
  const file = join(directory, 'backup')
  try {
    await controller.token()
    t.equal(await storeStatus({ controller: operator, printer }), 0)
    t.match(texts.pop(), /^store +embedded in the controller, API version 3\.4\.0$/m)
    const store = await openStoreAsOperator(
      { controller: operator },
      { credential: controller.operatorFile },
    )
    t.equal(await storeBackup({ store, printer }, { file }), 0)
    await t.rejects(storeBackup({ store, printer }, { file }), { code: 'backup-unwritable' })
    await controller.token({ host: 'h2' })
    t.equal((await store.list(tokensPrefix)).entries.length, 2)
    store.close()
    const metrics = await fetch(`http://127.0.0.1:${controller.ports.metrics}/metrics`)
    t.match(await metrics.text(), /^mesh_controller_store_writable 1$/m)
  } finally {
    operator.close()
    await controller.stop()
  }

  const restored = await runController(directory, {}, ['restore', file]).ended
  t.strictSame(restored, { code: 0, stderr: '' })
  const again = await startController(directory)
  t.teardown(() => again.stop())
  const client = await again.operator()
  const store = await openStoreAsOperator(
    { controller: client },
    { credential: again.operatorFile },
  )
  t.teardown(() => {
    store.close()
    client.close()
  })
  t.equal((await store.list(tokensPrefix)).entries.length, 1)
  t.equal((await store.list(hostsPrefix)).entries.length, 0)
})

t.test('a command that is none ends the program with a line and its usage', async (t) => {
  const { code, stderr } = await runController(testDirectory(t), {}, ['restore']).ended
  t.equal(code, 64)
  t.match(
    stderr,
    /^mesh-controller: unknown command restore \(usage: .*main\.ts restore <backup>.*\)$/m,
  )
})
