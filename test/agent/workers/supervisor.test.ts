import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { systemClock as clock } from '#shared/lifecycle/clock.ts'
import { Supervisor, type Program, type SupervisorSettings } from '#agent/workers/supervisor.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { logLines } from '#test/support/log-lines.ts'
import { testDirectory } from '#test/support/test-directory.ts'
import { until } from '#test/support/until.ts'

/** Shortest waits between two starts. */
const random = { fraction: () => 0, bytes: (count: number) => Buffer.alloc(count) }

const environment = { PATH: '/usr/bin:/bin' }

// The clock's timers keep no process alive.
const alive = setInterval(() => {}, 60_000)
t.teardown(() => clearInterval(alive))

function shell(
  name: string,
  script: string,
  stopSignal: 'SIGINT' | 'SIGTERM' = 'SIGTERM',
): Program {
  return { name, command: '/bin/sh', args: ['-c', script], stopSignal }
}

function supervise(
  t: Test,
  programs: readonly Program[],
  settings: Partial<SupervisorSettings> = {},
) {
  const { logger, lines } = logLines()
  const supervisor = new Supervisor(
    { clock, random, logger },
    {
      environment,
      stages: programs.map((one) => [one]),
      finalCodes: [78],
      doneCode: 79,
      killMs: 10_000,
      ...settings,
    },
  )
  t.teardown(() => supervisor.stop())
  const ended = supervisor.run()
  const restarts = (name: string) => lines.filter((line) => line['program'] === name)
  return { supervisor, ended, restarts }
}

/** Stays until it is told to end; says so in a file. */
const staying = (log: string, name: string): string =>
  `trap 'echo ${name} ends >> ${log}; exit 0' INT TERM; echo ${name} >> ${log}; while :; do sleep 0.02; done`
const linesOf = (log: string): readonly string[] =>
  existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n') : []

t.test('Supervisor starts what ends again, later and later', async (t) => {
  const log = join(testDirectory(t), 'log')
  const { restarts } = supervise(t, [shell('a', `echo a >> ${log}; exit 3`)])
  await until('it has started four times', () => linesOf(log).length >= 4)
  const waits = restarts('a').map((line) => line['waitMs'])
  t.same(waits.slice(0, 3), [25, 50, 100])
  t.match(restarts('a')[0], { code: 3, signal: null })
})

t.test('Supervisor begins anew with its patience after a run that lasted', async (t) => {
  const log = join(testDirectory(t), 'log')
  const { restarts } = supervise(t, [shell('a', `echo a >> ${log}; exit 3`)], { steadyMs: 0 })
  await until('it has started four times', () => linesOf(log).length >= 4)
  t.same(
    restarts('a')
      .slice(0, 3)
      .map((line) => line['waitMs']),
    [25, 25, 25],
  )
})

t.test('Supervisor ends with everything when no restart can help at the start', async (t) => {
  const log = join(testDirectory(t), 'log')
  const { ended, restarts } = supervise(t, [
    shell('a', staying(log, 'a')),
    shell('b', `while ! [ -e ${log} ]; do sleep 0.02; done; exit 78`),
  ])
  t.equal(await ended, 78)
  t.same(linesOf(log), ['a', 'a ends'])
  t.same(restarts('b'), [])
})

t.test('Supervisor ends also when that took a program long to find out', async (t) => {
  const log = join(testDirectory(t), 'log')
  const { ended } = supervise(
    t,
    [
      shell('a', staying(log, 'a')),
      shell('b', `while ! [ -e ${log} ]; do sleep 0.02; done; exit 78`),
    ],
    { steadyMs: 0 },
  )
  t.equal(await ended, 78)
  t.same(linesOf(log), ['a', 'a ends'])
})

t.test('Supervisor keeps what serves when another program cannot start any more', async (t) => {
  const directory = testDirectory(t)
  const [log, flag] = [join(directory, 'log'), join(directory, 'flag')]
  const { restarts, supervisor, ended } = supervise(
    t,
    [
      shell('a', staying(log, 'a')),
      shell('b', `[ -e ${flag} ] && exit 78; echo b >> ${log}; exec sleep 0.1`),
    ],
    { steadyMs: 50 },
  )
  await until('it has served', () => restarts('b').length === 1)
  writeFileSync(flag, '')
  await until('it was tried again', () => restarts('b').some((line) => line['code'] === 78))
  await until('and again', () => restarts('b').length >= 4)
  t.notOk(linesOf(log).includes('a ends'))
  await supervisor.stop()
  t.equal(await ended, 0)
})

t.test(
  'Supervisor stops its programs one after the other, in the order they started',
  async (t) => {
    const log = join(testDirectory(t), 'log')
    const slow = `trap 'sleep 0.2; echo a ends >> ${log}; exit 0' INT; echo a >> ${log}; while :; do sleep 0.02; done`
    const { supervisor, ended } = supervise(t, [
      shell('a', slow, 'SIGINT'),
      shell('b', staying(log, 'b')),
    ])
    await until('both run', () => linesOf(log).length === 2)
    await Promise.all([supervisor.stop(), supervisor.stop()])
    t.equal(await ended, 0)
    t.same(linesOf(log).slice(2), ['a ends', 'b ends'])
  },
)

t.test('Supervisor stops those of one stage together', async (t) => {
  const log = join(testDirectory(t), 'log')
  // Each ends only once both were asked to.
  const waiting = (name: string): string =>
    `trap 'echo ${name} asked >> ${log}; until [ $(grep -c asked ${log}) = 2 ]; do sleep 0.02; done; exit 0' TERM; ` +
    `echo ${name} >> ${log}; while :; do sleep 0.02; done`
  const { supervisor, ended } = supervise(t, [], {
    stages: [[shell('a', waiting('a')), shell('b', waiting('b'))]],
  })
  await until('both run', () => linesOf(log).length === 2)
  await supervisor.stop()
  t.equal(await ended, 0)
  t.equal(linesOf(log).length, 4)
})

t.test('Supervisor kills what will not end', async (t) => {
  const log = join(testDirectory(t), 'log')
  const { supervisor, ended } = supervise(
    t,
    [shell('a', `trap '' TERM; echo a >> ${log}; while :; do sleep 0.02; done`)],
    { killMs: 50 },
  )
  await until('it runs', () => linesOf(log).length === 1)
  await supervisor.stop()
  t.equal(await ended, 0)
})

t.test('Supervisor outlives a missing program, and starts nothing once it stops', async (t) => {
  const fake = new FakeClock()
  const { logger, lines } = logLines()
  const missing = { ...shell('m', ''), command: '/no/such/program' }
  const supervisor = new Supervisor(
    { clock: fake, random, logger },
    { environment, stages: [[missing]], finalCodes: [], doneCode: 79, killMs: 10_000 },
  )
  const ended = supervisor.run()
  await until('it waits to try again', () => fake.pending === 1)
  t.match(lines, [{ program: 'm', error: /ENOENT/ }])
  await supervisor.stop()
  t.equal(fake.pending, 0)
  t.equal(await ended, 0)
})

t.test('Supervisor starts more beside what serves, and lets go of what is done', async (t) => {
  const directory = testDirectory(t)
  const log = join(directory, 'log')
  const { supervisor, restarts } = supervise(t, [shell('a', staying(log, 'a'))])
  await until('it serves', () => linesOf(log).length === 1)
  supervisor.add(0, [shell('broken', 'exit 78'), shell('done', 'exit 79')])
  await until('the broken one is tried again', () => restarts('broken').length >= 2)
  t.same(linesOf(log), ['a'], 'and what served serves')
  supervisor.add(0, [shell('b', staying(log, 'b'))])
  await until('another one serves', () => linesOf(log).length === 2)
  t.match(restarts('done'), [{ msg: 'program is done' }], 'it is not started again')
  await supervisor.stop()
  t.same(linesOf(log).slice(2).toSorted(), ['a ends', 'b ends'])
})
