import { join } from 'node:path'
import t from 'tap'
import { Child } from '#cli/demo/child.ts'
import { waitFor } from '#cli/demo/wait-for.ts'
import { testDirectory } from '#test/support/test-directory.ts'
import { thisMachine as machine } from '#test/support/this-machine.ts'

const here = {
  name: 'here',
  address: '127.0.0.1',
  local: '127.0.0.1',
  isOwnNetwork: false,
  enter: (command: readonly string[]) => command,
}
const parts = { place: here, machine }

t.test('Child keeps its output in a file and tells how it ended', async (t) => {
  const logFile = join(testDirectory(t), 'log')
  const child = new Child(parts, {
    name: 'x',
    command: ['/bin/sh', '-c', 'echo one; echo two >&2; exit 5'],
    logFile,
  })
  t.same(await child.ended, { code: 5, signal: null })
  t.same(child.ending, { code: 5, signal: null })
  t.equal(child.tail(1), 'two')
})

t.test('Child hands out lines instead when asked', async (t) => {
  const lines: string[] = []
  const child = new Child(parts, {
    name: 'x',
    command: ['/bin/sh', '-c', 'echo one; echo two'],
    logFile: join(testDirectory(t), 'log'),
    onLine: (line) => lines.push(line),
  })
  await child.ended
  t.same(lines, ['one', 'two'])
})

t.test('Child.stop ends what the program started, also when it will not listen', async (t) => {
  const pids: number[] = []
  const child = new Child(parts, {
    name: 'stubborn',
    command: ['/bin/sh', '-c', 'trap "" TERM; sleep 1000 & echo $!; echo $$; wait; wait'],
    logFile: join(testDirectory(t), 'log'),
    onLine: (line) => pids.push(Number(line)),
  })
  await waitFor('it has started', () => pids.length === 2, { deadlineMs: 10_000 })
  t.ok(pids.every(machine.isAlive))
  await child.stop(50)
  t.same(child.ending, { code: null, signal: 'SIGKILL' })
  await waitFor('its child is gone', () => !pids.some(machine.isAlive), { deadlineMs: 10_000 })
})

t.test('Child says so when its program cannot be started', async (t) => {
  const child = new Child(
    { place: { ...here, enter: () => ['/no/such/program'] }, machine },
    { name: 'x', command: ['x'], logFile: join(testDirectory(t), 'log') },
  )
  t.match(await child.ended, { code: null, signal: /ENOENT/ })
  child.kill()
})

t.test('waitFor gives up at its deadline and when it cannot hold any more', async (t) => {
  const late = waitFor('pigs fly', () => Promise.reject(new Error('no wings')), {
    deadlineMs: 60,
    logs: () => 'the log',
  })
  await t.rejects(late, { code: 'demo-deadline', message: /pigs fly: no wings\nthe log/ })
  const lost = waitFor('pigs fly', () => false, { deadlineMs: 10_000, lost: () => 'no pigs' })
  await t.rejects(lost, { code: 'demo-fallen', message: /no pigs/ })
})
