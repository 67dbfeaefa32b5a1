import { chmodSync, chownSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { lookAround, noFault } from '#agent/manifests/places.ts'
import { needs } from '#test/support/needs.ts'
import { testDirectory } from '#test/support/test-directory.ts'

const own = process.getuid?.() ?? 0
const uidOf = async (user: string) => (user === 'nobody-here' ? null : own)
const files = () => ({ 'b.json': '', 'a.json': '', '.x.json': '', 'a.json~': '' })

t.test('lookAround finds the administrator’s files and those of each user', async (t) => {
  const directory = testDirectory(t, {
    ...files(),
    alice: files(),
    bob: {},
    '.git': files(),
    'c.json': files(),
  })
  const { places, fault, isBlind } = await lookAround(directory, uidOf)
  t.match(places, [
    { directory, user: null, names: ['a.json', 'b.json', 'c.json'] },
    { directory: `${directory}/alice`, user: 'alice', names: ['a.json', 'b.json'] },
    { directory: `${directory}/bob`, user: 'bob', names: [] },
  ])
  t.strictSame(fault, noFault)
  t.notOk(isBlind(`${directory}/alice`))
})

t.test('lookAround reads no directory that others may write to', async (t) => {
  const directory = testDirectory(t, { ...files(), alice: files() })
  chmodSync(`${directory}/alice`, 0o775)
  const user = await lookAround(directory, uidOf)
  t.equal(user.places.length, 1)
  t.match(user.fault, {
    problem: 'alice/ is not read: others may write to it',
    fix: `chmod go-w ${directory}/alice`,
  })
  t.ok(user.isBlind(`${directory}/alice`))
  chmodSync(directory, 0o777)
  const all = await lookAround(directory, uidOf)
  t.match(all, {
    places: [],
    fault: { problem: 'is not read: anybody may write to it', fix: `chmod o-w ${directory}` },
  })
  t.ok(all.isBlind(directory))
})

t.test('lookAround leaves links and directories of nobody aside', async (t) => {
  const directory = testDirectory(t, { 'nobody-here': files(), elsewhere: { mesh: {} } })
  symlinkSync(`${directory}/elsewhere`, `${directory}/bob`)
  const { places, fault } = await lookAround(directory, uidOf)
  t.strictSame(
    places.map(({ user }) => user),
    [null, 'elsewhere'],
  )
  t.match(fault, {
    problem: 'nobody-here/ is ignored: there is no such user',
    fix: /move .*nobody-here away/,
  })
})

t.test('lookAround reads a user’s directory only if it is his', async (t) => {
  if (!needs(t, 'root')) return
  const directory = testDirectory(t, { alice: files() })
  chownSync(`${directory}/alice`, 4711, 4711)
  const foreign = await lookAround(directory, async () => 4712)
  t.match(foreign.fault, {
    problem: 'alice/ is not read: it belongs to user 4711, not to alice',
    fix: `chown alice ${directory}/alice`,
  })
  const his = await lookAround(directory, async () => 4711)
  t.strictSame(his.places[1]?.owners, new Set([0, 4711]))
})

t.test('lookAround tells a directory that is gone from one that cannot be read', async (t) => {
  const directory = `${testDirectory(t, {})}/mesh.d`
  const gone = await lookAround(directory, uidOf)
  t.match(gone, {
    places: [],
    fault: { problem: 'does not exist', fix: /^install -d -m 755 .*paths\.manifests/ },
  })
  t.notOk(gone.isBlind(directory))
  writeFileSync(directory, '')
  const file = await lookAround(directory, uidOf)
  t.match(file.fault, { problem: 'is not a directory', fix: /^move it away: install -d/ })
  t.ok(file.isBlind(directory))
  rmSync(directory)
  symlinkSync(directory, directory)
  const link = await lookAround(directory, uidOf)
  t.match(link.fault, { problem: 'is a symbolic link', fix: /paths\.manifests/ })
  t.ok(link.isBlind(directory))
  const below = await lookAround(`${directory}/mesh.d`, uidOf)
  t.match(below.fault, { problem: 'cannot be read (ELOOP)', cause: /a link that leads to itself/ })
  rmSync(directory)
  writeFileSync(directory, '')
  const under = await lookAround(`${directory}/mesh.d`, uidOf)
  t.match(under.fault, { problem: 'cannot be read (ENOTDIR)', fix: /^namei -l .*paths\.manifests/ })
})

t.test('lookAround says that a directory is closed to it', async (t) => {
  const directory = testDirectory(t, files())
  chmodSync(directory, 0)
  // Root may read everything.
  if (own === 0) process.seteuid?.(65_534)
  const { fault } = await lookAround(directory, uidOf)
  if (own === 0) process.seteuid?.(0)
  chmodSync(directory, 0o755)
  t.match(fault, { problem: 'cannot be read (EACCES)', fix: `chmod o+rx ${directory} and the` })
})

t.test('lookAround names every directory that is not read, and explains the first', async (t) => {
  const users = Object.fromEntries(['a', 'b', 'c', 'd'].map((name) => [name, {}]))
  const directory = testDirectory(t, users)
  for (const name of Object.keys(users)) chmodSync(`${directory}/${name}`, 0o777)
  const { fault } = await lookAround(directory, uidOf)
  t.equal(fault.problem.split('; ').length, 4)
  t.equal(fault.fix, ['a', 'b', 'c'].map((name) => `chmod go-w ${directory}/${name}`).join('; '))
})
