import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import t from 'tap'
import { DirectoryMirror } from '#agent/manifests/directory-mirror.ts'
import { systemRandom } from '#shared/lifecycle/clock.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { logLines } from '#test/support/log-lines.ts'
import { testDirectory } from '#test/support/test-directory.ts'

const byName = (a: string, b: string): number => (a < b ? -1 : 1)

function mirrorOf(directory: string, durable = false) {
  const clock = new FakeClock()
  const { logger, lines } = logLines()
  const mirror = new DirectoryMirror(
    { clock, random: systemRandom, logger },
    { directory, mode: 0o640, durable },
  )
  return { clock, lines, mirror }
}

const shown = (directory: string) =>
  Object.fromEntries(
    readdirSync(directory)
      .sort()
      .map((name) => [name, readFileSync(`${directory}/${name}`, 'utf8')]),
  )

for (const durable of [false, true]) {
  t.test(`a mirror shows its map${durable ? ', durably' : ''}`, async (t) => {
    const directory = `${testDirectory(t, {})}/deep/status`
    const { mirror } = mirrorOf(directory, durable)
    mirror.show(
      new Map([
        ['a.json', '1'],
        ['b.json', '2'],
      ]),
    )
    mirror.show(
      new Map([
        ['a.json', '1'],
        ['b.json', '3'],
        ['c.json', '4'],
      ]),
    )
    await mirror.settled()
    t.strictSame(shown(directory), { 'a.json': '1', 'b.json': '3', 'c.json': '4' })
    t.equal(statSync(`${directory}/a.json`).mode & 0o777, 0o640)
    mirror.show(new Map([['c.json', '4']]))
    await mirror.settled()
    t.strictSame(shown(directory), { 'c.json': '4' })
    await mirror.stop()
  })
}

t.test(
  'what an earlier run left is replaced or removed; foreign files are left alone',
  async (t) => {
    const directory = testDirectory(t, {
      'a.json': 'old',
      'b.json': 'old',
      '.x.tmp': 'half',
      notes: 'n',
    })
    mkdirSync(`${directory}/d.json`)
    const { mirror } = mirrorOf(directory)
    mirror.show(new Map([['a.json', 'new']]))
    await mirror.settled()
    rmSync(`${directory}/d.json`, { recursive: true })
    t.strictSame(shown(directory), { 'a.json': 'new', notes: 'n' })
  },
)

t.test('a failure is logged once, tried again, and holds up nothing else', async (t) => {
  const directory = testDirectory(t, {})
  const { clock, lines, mirror } = mirrorOf(directory)
  const long = `${'x'.repeat(300)}.json`
  mirror.show(
    new Map([
      [long, '1'],
      ['a.json', '1'],
    ]),
  )
  await mirror.settled()
  t.strictSame(shown(directory)['a.json'], '1')
  t.match(lines, [{ level: 'error', directory, problem: /ENAMETOOLONG/ }])
  await clock.advance(10_000)
  await mirror.settled()
  t.equal(lines.length, 1)
  t.equal(clock.pending, 1, 'another try is due')
  mirror.show(new Map([['a.json', '2']]))
  await mirror.settled()
  t.strictSame(shown(directory)['a.json'], '2')
  t.equal(clock.pending, 0)
  await mirror.stop()
})

t.test('a directory taken away is made again', async (t) => {
  const parent = testDirectory(t, { status: { 'a.json': '0' } })
  const { clock, mirror } = mirrorOf(`${parent}/status`)
  mirror.show(new Map([['a.json', '1']]))
  await mirror.settled()
  rmSync(`${parent}/status`, { recursive: true })
  mirror.show(new Map([['a.json', '2']]))
  await mirror.settled()
  await clock.advance(1000)
  await mirror.settled()
  t.strictSame(shown(`${parent}/status`), { 'a.json': '2' })
})

t.test('files below come and go with their directory; foreign ones keep it', async (t) => {
  const directory = testDirectory(t, {
    alice: { 'old.json': 'x' },
    bob: { 'old.json': 'x', notes: 'n' },
  })
  const { mirror } = mirrorOf(directory)
  mirror.show(new Map([['carol/a.json', '1']]))
  await mirror.settled()
  t.strictSame((readdirSync(directory, { recursive: true }) as string[]).toSorted(byName), [
    'bob',
    'bob/notes',
    'carol',
    'carol/a.json',
  ])
  mirror.show(new Map())
  await mirror.settled()
  t.strictSame(readdirSync(directory), ['bob'])
  await mirror.stop()
})

t.test('stop ends the tries', async (t) => {
  const file = `${testDirectory(t, { file: '' })}/file`
  const { clock, mirror } = mirrorOf(`${file}/below`)
  mirror.show(new Map([['a.json', '1']]))
  await mirror.stop()
  t.equal(clock.pending, 0)
  chmodSync(file, 0o600)
  writeFileSync(file, '')
})
