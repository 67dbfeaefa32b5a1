/** Holds the controller's program to its word, as a process: start, refuse, stop, crash. */

import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import type { Test } from 'tap'
import { systemClock as clock } from '#shared/lifecycle/clock.ts'
import { openOperatorClient } from '#shared/rpc/operator-file.ts'
import { startController } from '#test/support/controller.ts'
import { runController } from '#test/support/controller-process.ts'
import { testDirectory } from '#test/support/test-directory.ts'

// Eight processes are started here; on a busy machine each takes seconds.
t.setTimeout(300_000)

/** Refused: an exit code, one line that says why, and nothing of a state directory. */
async function refused(
  t: Test,
  run: ReturnType<typeof runController>,
  expected: number,
  problem: RegExp,
): Promise<void> {
  const { code, stderr } = await run.ended
  t.equal(code, expected)
  t.match(stderr, problem)
  t.equal(stderr.trim().split('\n').length, 1, stderr)
  t.match(stderr, /^mesh-controller: /)
}

t.test(
  'it starts, answers an operator, stops on SIGTERM, and starts again as the same CA',
  async (t) => {
    const directory = testDirectory(t)
    const file = `${directory}/state/operator.json`
    const bundles: string[] = []
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      const run = runController(directory)
      t.teardown(() => run.child.kill('SIGKILL'))
      await run.ready
      const operator = await openOperatorClient({ clock }, { file })
      const mesh = await operator.call('Certificates', 'DescribeMesh', {})
      bundles.push(mesh.trustBundlePem)
      operator.close()
      run.child.kill(signal)
      t.same(await run.ended, { code: 0, stderr: '' })
    }
    t.equal(bundles[0], bundles[1])
  },
)

t.test('a port in use is one clear line', async (t) => {
  const holder = createServer()
  await new Promise<void>((resolve) => {
    holder.listen(0, '127.0.0.1', resolve)
  })
  t.teardown(() => holder.close())
  const { port } = holder.address() as AddressInfo
  const [free, taken] = ['127.0.0.1:0', `127.0.0.1:${port}`]
  const directory = testDirectory(t)
  const run = runController(directory, { listen: { api: taken, store: free, metrics: free } })
  await refused(t, run, 69, new RegExp(`cannot listen on ${taken}`))
  for (const name of ['store', 'metrics']) {
    const address = { host: '127.0.0.1', port: 0 }
    const listen = { api: address, store: address, metrics: address }
    const started = startController(directory, {
      listen: { ...listen, [name]: { host: '127.0.0.1', port } },
    })
    await t.rejects(started, { code: 'port-unavailable' }, name)
  }
  t.notOk(existsSync(`${directory}/state`), 'nothing was written')
  const controller = await startController(directory)
  await controller.stop()
})

t.test('bad config and bad arguments are said together and start nothing', async (t) => {
  const directory = testDirectory(t)
  const { code, stderr } = await runController(directory, { name: 'A B', state: 'x', prot: 1 })
    .ended
  t.equal(code, 78)
  t.equal(stderr.trim().split('\n').length, 3)
  t.match(stderr, /controller\.json:\d+:\d+: /)
  await refused(
    t,
    runController(directory, {}, ['--store', 'redis']),
    78,
    /MESH_CONTROLLER_STORE.*redis/,
  )
  await refused(t, runController(directory, {}, ['--nonsense']), 64, /usage/)
  t.equal((await runController(directory, {}, ['--version']).ended).code, 0)
  t.notOk(existsSync(`${directory}/state`))
})

t.test('what cannot be read just now is tried again, what is not there is not', async (t) => {
  const directory = testDirectory(t)
  const config = (path: string) => runController(directory, {}, ['--config', path])
  await refused(t, config(`${directory}/none.json`), 78, /cannot read the config .*ENOENT/)
  await refused(t, config(directory), 78, /cannot read the config .*EISDIR/)
  // The memory of a process cannot be read at its beginning, as a bad disk cannot.
  await refused(t, config('/proc/self/mem'), 1, /cannot read the config .*EIO/)
  const controller = await startController(directory)
  await controller.stop()
  for (const name of ['hosts.jsonl', 'trust.json']) {
    const path = `${directory}/state/${name}`
    const kept = existsSync(path) ? readFileSync(path) : null
    rmSync(path, { force: true })
    symlinkSync('/proc/self/mem', path)
    await refused(t, runController(directory), 1, new RegExp(`cannot read .*${name}: EIO`))
    rmSync(path)
    if (kept !== null) writeFileSync(path, kept)
  }
})

t.test('a data directory of a newer version is refused and stays as it is', async (t) => {
  const directory = testDirectory(t)
  const facts = JSON.stringify({ format: 99 })
  mkdirSync(`${directory}/state/ca`, { recursive: true })
  writeFileSync(`${directory}/state/ca/ca.json`, facts)
  await refused(t, runController(directory), 78, /format 99/)
  t.same(readdirSync(`${directory}/state`), ['ca'])
  t.equal(readFileSync(`${directory}/state/ca/ca.json`, 'utf8'), facts)
})

t.test(
  'two controllers never share a data directory, and a killed one leaves it free',
  async (t) => {
    const directory = testDirectory(t)
    const first = runController(directory)
    t.teardown(() => first.child.kill('SIGKILL'))
    await first.ready
    await refused(t, runController(directory), 69, /store\.sqlite/)
    first.child.kill('SIGKILL')
    await first.ended
    const after = await startController(directory)
    await after.stop()
  },
)
