import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  linkSync,
  mkdirSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import t from 'tap'
import { lookAt as lookAtWith, standsAt } from '#agent/manifests/manifest-file.ts'
import { testDirectory } from '#test/support/test-directory.ts'

const rules = { user: null, owners: new Set([process.getuid?.() ?? 0]) }
const lookAt = (path: string, stamp: string, now: number) => lookAtWith(path, stamp, now, rules)

const good = '{"port": 8080}'

t.test('lookAt reads a plain file', async (t) => {
  const path = `${testDirectory(t, { 'orders.json': good })}/orders.json`
  const look = await lookAt(path, '', Date.now())
  t.match(look, {
    kind: 'read',
    version: {
      path,
      hash: /^[0-9a-f]{64}$/,
      text: good,
      reading: { ok: true, manifest: { file: path, service: 'orders', port: 8080 } },
    },
  })
})

t.test('what is not a plain file of its own is refused without waiting for it', async (t) => {
  const directory = testDirectory(t, { 'real.json': good, 'twice.json': good, 'folder.json': {} })
  symlinkSync(`${directory}/real.json`, `${directory}/link.json`)
  linkSync(`${directory}/twice.json`, `${directory}/twin`)
  execFileSync('mkfifo', [`${directory}/pipe.json`])
  symlinkSync('/dev/zero', `${directory}/zero.json`)
  const expected = { link: 'linked-file', twice: 'linked-file', zero: 'linked-file' }
  for (const [name, rule] of Object.entries({
    ...expected,
    folder: 'not-a-file',
    pipe: 'not-a-file',
  })) {
    const look = await lookAt(`${directory}/${name}.json`, '', Date.now())
    t.match(look, { version: { reading: { ok: false, problems: [{ rule, line: 0 }] } } }, name)
  }
  t.strictSame(await lookAt(`${directory}/none.json`, '', Date.now()), { kind: 'gone' })
})

t.test('a huge file costs one bounded read', async (t) => {
  const directory = testDirectory(t, {})
  execFileSync('truncate', ['-s', '10G', `${directory}/huge.json`])
  t.match(await lookAt(`${directory}/huge.json`, '', Date.now()), {
    version: { text: '', reading: { ok: false, problems: [{ rule: 'too-large' }] } },
  })
})

t.test('a file nobody may read is refused by name', async (t) => {
  const path = `${testDirectory(t, { 'secret.json': good })}/secret.json`
  chmodSync(path, 0)
  const look = await lookAt(path, '', Date.now())
  if (process.getuid?.() === 0) t.match(look, { version: { reading: { ok: true } } })
  else t.match(look, { version: { reading: { ok: false, problems: [{ rule: 'unreadable' }] } } })
})

t.test('a stamp saves reading again, but not while the file is fresh', async (t) => {
  const path = `${testDirectory(t, { 'orders.json': good })}/orders.json`
  const fresh = await lookAt(path, '', Date.now())
  t.equal(fresh.kind === 'read' && fresh.version.stamp, '')
  const later = Date.now() + 60_000
  const old = await lookAt(path, '', later)
  const stamp = old.kind === 'read' ? old.version.stamp : ''
  t.not(stamp, '')
  t.strictSame(await lookAt(path, stamp, later), { kind: 'unchanged' })
  utimesSync(path, 1, 1)
  t.match(await lookAt(path, stamp, later), { kind: 'read', version: { mtimeMs: 1000 } })
  rmSync(path)
  t.strictSame(await lookAt(path, stamp, later), { kind: 'gone' })
  mkdirSync(path)
  t.match(await lookAt(path, stamp, later), { version: { reading: { ok: false } } })
  rmSync(path, { recursive: true })
  writeFileSync(path, '{"port": 8081}')
  t.match(await lookAt(path, stamp, later), { version: { reading: { ok: true } } })
})

t.test('a file of somebody else, or that anybody may write to, is refused', async (t) => {
  const directory = testDirectory(t, { 'orders.json': good, 'open.json': good })
  const foreign = { user: 'alice', owners: new Set([4711]) }
  t.match(await lookAtWith(`${directory}/orders.json`, '', Date.now(), foreign), {
    version: {
      reading: { problems: [{ rule: 'foreign-owner', message: /only those of alice/ }] },
    },
  })
  chmodSync(`${directory}/open.json`, 0o646)
  t.match(await lookAt(`${directory}/open.json`, '', Date.now()), {
    version: { reading: { problems: [{ rule: 'open-to-all', hint: 'chmod o-w it' }] } },
  })
})

t.test('a manifest in a user’s directory knows whose it is', async (t) => {
  const path = `${testDirectory(t, { 'orders.json': good })}/orders.json`
  const look = await lookAtWith(path, '', Date.now(), { ...rules, user: 'alice' })
  t.match(look, { version: { reading: { ok: true, manifest: { owner: 'alice' } } } })
  t.equal(standsAt(path, 'alice'), 'alice/orders.json')
  t.equal(standsAt(path), 'orders.json')
})
