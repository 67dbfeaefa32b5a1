import { readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { KeptResults, type ResultSubject } from '#agent/health/kept-results.ts'
import type { ServiceName } from '#shared/model/names.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { logLines } from '#test/support/log-lines.ts'
import { testDirectory } from '#test/support/test-directory.ts'

const subject: ResultSubject = {
  service: 'orders' as ServiceName,
  check: 'push',
  owner: null,
  address: '127.0.0.1',
  port: 8080,
}
const fine = { outcome: 'pass', detail: 'fine' } as const

function runOf(t: Test) {
  const runDirectory = testDirectory(t)
  const clock = new FakeClock()
  const { logger, lines } = logLines()
  /** As a process that starts now has it. */
  const start = async (): Promise<KeptResults> => {
    const kept = new KeptResults({ clock, logger }, { runDirectory })
    await kept.load()
    return kept
  }
  return { clock, lines, start, runDirectory, path: `${runDirectory}/pushed-health.json` }
}

t.test('a result is there after a restart, for as long as it counts', async (t) => {
  const { clock, lines, start, path, runDirectory } = runOf(t)
  const first = await start()
  t.equal(first.standing(subject, 5000), null)
  first.keep(subject, { outcome: 'fail', detail: 'full' })
  await clock.advance(1000)
  first.keep(subject, fine)
  await first.stop()
  t.equal(statSync(path).mode & 0o777, 0o600)
  t.same(readdirSync(runDirectory), ['pushed-health.json'])
  await clock.advance(3000)
  const second = await start()
  t.same(second.standing(subject, 5000), { ...fine, leftMs: 2000 })
  t.equal(second.standing(subject, 3000), null, 'its time is over')
  for (const other of [
    { service: 'users' as ServiceName },
    { check: 'disk' },
    { owner: 'alice' },
    { address: '127.0.0.2' },
    { port: 8081 },
  ]) {
    t.equal(second.standing({ ...subject, ...other }, 5000), null, Object.keys(other).join())
  }
  await clock.advance(2000)
  t.equal(second.standing(subject, 5000), null)
  t.same(lines, [])
})

t.test('a result from the future does not count', async (t) => {
  const { start, path } = runOf(t)
  const first = await start()
  first.keep(subject, fine)
  await first.stop()
  const atMs = Date.UTC(2026, 0, 1) + 1
  writeFileSync(path, JSON.stringify([{ ...subject, ...fine, atMs }]))
  t.equal((await start()).standing(subject, 5000), null)
})

t.test('what is brought within a moment is written once, and without a stop', async (t) => {
  const { clock, start, path } = runOf(t)
  const kept = await start()
  kept.keep(subject, fine)
  kept.keep({ ...subject, check: 'disk' }, fine)
  t.equal(clock.pending, 1)
  await clock.advance(200)
  t.equal(clock.pending, 0)
  await kept.stop()
  t.equal((JSON.parse(readFileSync(path, 'utf8')) as readonly unknown[]).length, 2)
})

t.test('what is forgotten, or older than any may be, is not kept', async (t) => {
  const { clock, start, path } = runOf(t)
  const kept = await start()
  kept.keep({ ...subject, check: 'old' }, fine)
  await clock.advance(86_400_000)
  kept.keep(subject, fine)
  kept.keep({ ...subject, check: 'gone' }, fine)
  kept.forget(subject.service, 'gone')
  await kept.stop()
  t.match(JSON.parse(readFileSync(path, 'utf8')), [{ check: 'push' }])
  t.equal((JSON.parse(readFileSync(path, 'utf8')) as readonly unknown[]).length, 1)
})

t.test('a damaged file is told and left aside; of a damaged item only that', async (t) => {
  const { lines, start, path } = runOf(t)
  const atMs = Date.UTC(2026, 0, 1)
  const good = { ...subject, ...fine, atMs }
  for (const text of ['', '[{"service": "ord', '{}', 'null', '7']) {
    const told = lines.length
    writeFileSync(path, text)
    t.equal((await start()).standing(subject, 5000), null)
    t.match(lines.slice(told), [{ level: 'warn', path, msg: /left aside/ }], text)
  }
  const bad = [null, {}, { ...good, outcome: 'PASS' }, { ...good, service: '../x' }, [good]]
  writeFileSync(path, JSON.stringify([...bad, good]))
  t.match((await start()).standing(subject, 5000), fine)
  t.match(lines.at(-1), { problem: '5 are damaged' })
})

t.test('more than can be kept push out the oldest', async (t) => {
  const { start } = runOf(t)
  const kept = await start()
  for (let n = 0; n <= 10_000; n += 1) kept.keep({ ...subject, check: `c${n}` }, fine)
  t.equal(kept.standing({ ...subject, check: 'c0' }, 5000), null)
  t.ok(kept.standing({ ...subject, check: 'c1' }, 5000))
  t.ok(kept.standing({ ...subject, check: 'c10000' }, 5000))
  await kept.stop()
})

t.test('a directory that cannot be written to is told once', async (t) => {
  const { logger, lines } = logLines()
  const runDirectory = `${testDirectory(t)}/none`
  const kept = new KeptResults({ clock: new FakeClock(), logger }, { runDirectory })
  await kept.load()
  kept.keep(subject, fine)
  await kept.stop()
  t.match(lines, [{ level: 'error', msg: /not kept over a restart/, problem: /ENOENT/ }])
})
