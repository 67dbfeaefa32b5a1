import {
  chmodSync,
  closeSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import t, { type Test } from 'tap'
import { GoodVersions } from '#agent/manifests/good-versions.ts'
import { noFault } from '#agent/manifests/places.ts'
import { ManifestWatcher } from '#agent/manifests/watcher.ts'
import { type Clock, systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import { logLines } from '#test/support/log-lines.ts'
import { testDirectory } from '#test/support/test-directory.ts'
import { until } from '#test/support/until.ts'

const byName = (a: string, b: string): number => (a < b ? -1 : 1)

/** A watcher on a directory of its own, without unprompted looks unless asked. */
async function watching(
  t: Test,
  files: Record<string, string | Record<string, string>>,
  settings: {
    readonly rescanMs?: number
    /** The tree of an earlier watcher. */
    readonly root?: string
    /** Last good versions of an earlier run. */
    readonly kept?: Record<string, string>
    /** Where the tree is to come later. */
    readonly later?: string
    /** @default that of the system */
    readonly clock?: Clock
    /** @default asks the machine */
    readonly isLocal?: (address: string) => boolean
    /** Globs of services by user. */
    readonly userServices?: Record<string, readonly string[]>
  } = {},
) {
  // Before the test directory is made, because tap would otherwise remove that first.
  const running: { stop: () => Promise<void> } = { stop: async () => {} }
  t.teardown(() => running.stop())
  const tree = { 'mesh.d': files, state: { manifests: settings.kept ?? {} } }
  const root =
    settings.root ??
    (settings.later === undefined
      ? testDirectory(t, tree)
      : `${testDirectory(t, {})}/${settings.later}`)
  const directory = `${root}/mesh.d`
  const { logger, lines } = logLines()
  const parts = { clock: settings.clock ?? systemClock, random: systemRandom, logger }
  const goodVersions = new GoodVersions(parts, { stateDirectory: `${root}/state` })
  const watcher = new ManifestWatcher(
    {
      ...parts,
      goodVersions,
      uidOf: async () => process.getuid?.() ?? null,
      ...(settings.isLocal === undefined ? {} : { isLocal: settings.isLocal }),
    },
    {
      directory,
      rescanMs: settings.rescanMs ?? 60_000,
      userServices: settings.userServices ?? {},
    },
  )
  let changes = 0
  watcher.onChange(() => {
    changes += 1
  })
  await watcher.start()
  const stop = async (): Promise<void> => {
    await watcher.stop()
    await goodVersions.stop()
  }
  running.stop = stop
  const drop = (name: string, content: unknown): void =>
    writeFileSync(
      `${directory}/${name}`,
      typeof content === 'string' ? content : JSON.stringify(content),
    )
  const services = (): string =>
    watcher.manifests
      .map(({ service, port }) => `${service}:${port}`)
      .sort()
      .join(' ')
  const said = (msg: string): number => lines.filter((line) => line['msg'] === msg).length
  return { root, directory, watcher, stop, drop, services, said, lines, changes: () => changes }
}

t.test('what stands there at the start is in force when start resolves', async (t) => {
  const { services, watcher } = await watching(t, { 'a.json': '{"port": 1}', 'b.json': '{"x": 1}' })
  t.equal(services(), 'a:1')
  await until('b, just written, is judged', () => watcher.verdicts[1]?.verdict === 'rejected')
  t.ok(Object.isFrozen(watcher.manifests) && Object.isFrozen(watcher.verdicts))
})

t.test('an address that comes to the host is found where no file has changed', async (t) => {
  let addresses: readonly string[] = []
  const { services } = await watching(
    t,
    { 'a.json': '{"port": 1}', 'b.json': '{"port": 2, "address": "192.0.2.7"}' },
    {
      rescanMs: 50,
      isLocal: (address) => address === '127.0.0.1' || addresses.includes(address),
      // Its files have been as they are for long.
      clock: { ...systemClock, now: () => systemClock.now() + 3_600_000 },
    },
  )
  t.equal(services(), 'a:1')
  addresses = ['192.0.2.7']
  await until('b is in force', () => services() === 'a:1 b:2')
})

t.test(
  'files dropped, changed, renamed into place and removed are followed without a signal',
  async (t) => {
    const { directory, drop, services } = await watching(t, {})
    drop('a.json', { port: 1 })
    await until('a is there', () => services() === 'a:1')
    drop('a.json', { port: 2 })
    await until('a has changed', () => services() === 'a:2')
    drop('.b.json.tmp', { port: 3 })
    renameSync(`${directory}/.b.json.tmp`, `${directory}/b.json`)
    await until('b is there', () => services() === 'a:2 b:3')
    rmSync(`${directory}/a.json`)
    await until('a is gone', () => services() === 'b:3')
  },
)

t.test('editors at work leave no trace', async (t) => {
  const { directory, drop, services, said, changes } = await watching(t, {
    'a.json': '{"port": 1}',
  })
  for (let save = 2; save <= 4; save += 1) {
    drop('.a.json.swp', 'binary')
    drop('4913', '')
    renameSync(`${directory}/a.json`, `${directory}/a.json~`)
    await new Promise(setImmediate)
    drop('a.json', { port: save })
    await until('the save is in force', () => services() === `a:${save}`)
  }
  t.equal(changes(), 4, 'one for the start and one for each save')
  t.equal(said('manifest removed'), 0)
  t.equal(said('manifest rejected'), 0)
})

t.test('a half-written file is not judged until it is whole', async (t) => {
  // Time stands still, so that no pause of a crowded machine makes half a file an old one.
  const begun = [systemClock.now(), systemClock.elapsed()] as const
  const clock = { ...systemClock, now: () => begun[0], elapsed: () => begun[1] }
  const { drop, services, said } = await watching(t, { 'a.json': '{"port": 1}' }, { clock })
  const text = '{"port": 2, "weight": 7}'
  for (let length = 0; length < text.length; length += 4) {
    drop('a.json', text.slice(0, length))
    await new Promise((resolve) => setTimeout(resolve, 10))
    t.equal(services(), 'a:1')
  }
  drop('a.json', text)
  await until('the whole is in force', () => services() === 'a:2')
  t.equal(said('manifest rejected'), 0)
})

t.test(
  'a bad file keeps its last good version, harms no other, and is reported once',
  async (t) => {
    const { watcher, directory, drop, services, said, lines } = await watching(
      t,
      { 'a.json': '{"port": 1}', 'b.json': '{"port": 2}' },
      { rescanMs: 30 },
    )
    drop('a.json', '{"prot": 5}')
    await until('it is rejected', () => watcher.verdicts[0]?.verdict === 'rejected')
    t.equal(services(), 'a:1 b:2')
    t.match(
      lines.findLast((line) => line['msg'] === 'manifest rejected'),
      {
        file: `${directory}/a.json`,
        inForce: 'its last good version',
        problems: [/a\.json:1:2: unknown key "prot" \(did you mean "port"\?\)/],
      },
    )
    const [rejected] = watcher.verdicts
    t.ok(rejected !== undefined && rejected.judgedAtMs > 0)
    drop('c.json', { port: 3 })
    await until('others go on', () => services() === 'a:1 b:2 c:3')
    drop('a.json', '{"prot": 5}')
    drop('d.json', { port: 4 })
    await until('others go on', () => services() === 'a:1 b:2 c:3 d:4')
    t.equal(said('manifest rejected'), 1, 'once for one content')
    t.equal(watcher.verdicts[0], rejected, 'and reached at one time')
    drop('a.json', '{"port": 9}')
    await until('it is mended', () => services() === 'a:9 b:2 c:3 d:4')
  },
)

t.test('who came second gets the name when the first goes', async (t) => {
  const { watcher, directory, drop, services } = await watching(t, { 'a.json': '{"port": 1}' })
  drop('b.json', { name: 'a', port: 2 })
  await until('it is refused', () => watcher.verdicts[1]?.verdict === 'rejected')
  t.equal(services(), 'a:1')
  rmSync(`${directory}/a.json`)
  await until('it is accepted', () => services() === 'a:2')
})

t.test('a directory removed, made again and renamed over is followed', async (t) => {
  const { root, directory, watcher, drop, services } = await watching(t, {
    'a.json': '{"port": 1}',
  })
  rmSync(directory, { recursive: true })
  await until('all is gone', () => watcher.manifests.length === 0)
  t.equal(watcher.directoryFault.problem, 'does not exist')
  mkdirSync(directory)
  drop('b.json', { port: 2 })
  await until('b is there', () => services() === 'b:2')
  t.strictSame(watcher.directoryFault, noFault)
  mkdirSync(`${root}/next`)
  writeFileSync(`${root}/next/c.json`, '{"port": 3}')
  renameSync(directory, `${root}/old`)
  renameSync(`${root}/next`, directory)
  await until('c took its place', () => services() === 'c:3')
  drop('d.json', { port: 4 })
  await until('the new directory is watched', () => services() === 'c:3 d:4')
})

t.test('a directory of which even the parent comes later is found by looking', async (t) => {
  const { root, services } = await watching(t, {}, { later: 'later', rescanMs: 20 })
  mkdirSync(`${root}/mesh.d`, { recursive: true })
  writeFileSync(`${root}/mesh.d/a.json`, '{"port": 1}')
  await until('a is there', () => services() === 'a:1')
})

t.test('last good versions survive a restart with a bad file', async (t) => {
  const first = await watching(t, { 'a.json': '{"port": 1}', 'b.json': '{"port": 2}' })
  await first.stop()
  t.strictSame(readdirSync(`${first.root}/state/manifests`).sort(), ['a.json', 'b.json'])
  first.drop('a.json', '{"port": }')
  rmSync(`${first.directory}/b.json`)
  writeFileSync(`${first.root}/state/manifests/c.json`, '{"port": 3}')
  const second = await watching(t, {}, { root: first.root })
  t.equal(second.services(), 'a:1', 'b and c have no file any more')
  await until('it is judged', () => second.said('manifest rejected') === 1)
  t.equal(second.services(), 'a:1')
  await second.stop()
  t.strictSame(readdirSync(`${first.root}/state/manifests`), ['a.json'])
})

t.test('damaged last good versions are left out', async (t) => {
  const { services } = await watching(
    t,
    { 'a.json': '{', 'b.json': '{"port": 2}' },
    { kept: { 'a.json': '{"port": 1', 'b.json': 'x' } },
  )
  t.equal(services(), 'b:2')
})

t.test('stop means stop', async (t) => {
  const { drop, stop, changes } = await watching(t, {}, { rescanMs: 10 })
  await stop()
  const before = changes()
  drop('a.json', { port: 1 })
  await new Promise((resolve) => setTimeout(resolve, 60))
  t.equal(changes(), before)
})

t.test('users’ directories are followed like the administrator’s', async (t) => {
  const { directory, drop, services, root, stop, watcher } = await watching(t, {
    'a.json': '{"port": 1}',
    alice: { 'alice.json': '{"port": 2}' },
  })
  t.equal(services(), 'a:1 alice:2')
  drop('alice/alice.json', { port: 3 })
  await until('the change is in force', () => services() === 'a:1 alice:3')
  mkdirSync(`${directory}/bob`)
  drop('bob/x.json', { name: 'bob', port: 4 })
  await until('a new user’s is in force', () => services() === 'a:1 alice:3 bob:4')
  drop('bob/x.json', { name: 'orders', port: 4 })
  await until('a foreign name is refused', () => watcher.verdicts[2]?.verdict === 'rejected')
  t.match(watcher.verdicts[2], { user: 'bob', manifest: { service: 'bob' } })
  chmodSync(`${directory}/bob`, 0o777)
  await until('the fault is told', () =>
    watcher.directoryFault.problem.includes('bob/ is not read'),
  )
  rmSync(`${directory}/alice`, { recursive: true })
  await until('alice is gone, bob stays', () => services() === 'a:1 bob:4')
  await stop()
  t.strictSame(
    (readdirSync(`${root}/state/manifests`, { recursive: true }) as string[]).toSorted(byName),
    ['a.json', 'bob', 'bob/x.json'],
  )
})

t.test('what users had is remembered over a restart while it cannot be read', async (t) => {
  const first = await watching(t, { alice: { 'alice.json': '{"port": 2}' } })
  await first.stop()
  chmodSync(`${first.directory}/alice`, 0o777)
  const second = await watching(t, {}, { root: first.root })
  t.equal(second.services(), 'alice:2')
})

/** Opens a file so that what is written to it gives its directory no hint: by a name it had elsewhere. */
function silently(t: Test, path: string, elsewhere: string): (content: object) => void {
  linkSync(path, elsewhere)
  const file = openSync(elsewhere, 'r+')
  unlinkSync(elsewhere)
  t.teardown(() => closeSync(file))
  return (content) => {
    ftruncateSync(file)
    writeSync(file, JSON.stringify(content), 0)
  }
}

t.test('a change of which no hint tells is found all the same', async (t) => {
  const { root, directory, services } = await watching(
    t,
    { 'a.json': '{"port": 1}', 'b.json': '{"port": 2}' },
    { rescanMs: 50 },
  )
  const write = silently(t, `${directory}/a.json`, `${root}/elsewhere`)
  write({ port: 3 })
  await until('the change is in force', () => services() === 'a:3 b:2')
})

t.test('a hint has the file looked at that it names, and no other', async (t) => {
  const { root, directory, drop, services } = await watching(t, { 'a.json': '{"port": 1}' })
  silently(t, `${directory}/a.json`, `${root}/elsewhere`)({ port: 2 })
  drop('b.json', { port: 3 })
  await until('b is there', () => services().includes('b:3'))
  t.equal(services(), 'a:1 b:3')
})

t.test('more hints than can be kept lose no file', async (t) => {
  const { watcher, drop, services } = await watching(t, { 'a.json': '{"port": 1}' })
  const count = 520
  for (let i = 0; i < count; i += 1) drop(`b${i}.json`, { port: 10_000 + i })
  await until('all are in force', () => watcher.manifests.length === count + 1, {
    withinMs: 60_000,
  })
  drop('a.json', { port: 2 })
  await until('hints are followed as before', () => services().includes('a:2'))
})

t.test('what comes while all files are looked at is in force after it', async (t) => {
  const files = Object.fromEntries(
    Array.from({ length: 200 }, (_, i) => [`m${i}.json`, `{"port": ${10_000 + i}}`]),
  )
  const { directory, watcher, drop } = await watching(t, files, { rescanMs: 1 })
  for (let i = 0; i < 50; i += 1) {
    drop(`.n${i}`, { port: 20_000 + i })
    renameSync(`${directory}/.n${i}`, `${directory}/n${i}.json`)
    rmSync(`${directory}/m${i}.json`)
    await new Promise(setImmediate)
  }
  const services = (): readonly string[] => watcher.manifests.map(({ service }) => service)
  await until('what came and went is known', () => {
    const now = services()
    return now.length === 200 && now.filter((name) => name.startsWith('n')).length === 50
  })
})
