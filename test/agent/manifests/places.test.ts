import { chmodSync, chownSync, mkdirSync, rmSync, symlinkSync } from 'node:fs'
import t from 'tap'
import { lookAround } from '#agent/manifests/places.ts'
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
  const { places, problem, isBlind } = await lookAround(directory, uidOf)
  t.match(places, [
    { directory, user: null, names: ['a.json', 'b.json', 'c.json'] },
    { directory: `${directory}/alice`, user: 'alice', names: ['a.json', 'b.json'] },
    { directory: `${directory}/bob`, user: 'bob', names: [] },
  ])
  t.equal(problem, '')
  t.notOk(isBlind(`${directory}/alice`))
})

t.test('lookAround reads no directory that others may write to', async (t) => {
  const directory = testDirectory(t, { ...files(), alice: files() })
  chmodSync(`${directory}/alice`, 0o775)
  const user = await lookAround(directory, uidOf)
  t.equal(user.places.length, 1)
  t.match(user.problem, /alice\/ is not read: others may write to it \(chmod go-w\)/)
  t.ok(user.isBlind(`${directory}/alice`))
  chmodSync(directory, 0o777)
  const all = await lookAround(directory, uidOf)
  t.match(all, { places: [], problem: /anybody may write to it/ })
  t.ok(all.isBlind(directory))
})

t.test('lookAround leaves links and directories of nobody aside', async (t) => {
  const directory = testDirectory(t, { 'nobody-here': files(), elsewhere: { mesh: {} } })
  symlinkSync(`${directory}/elsewhere`, `${directory}/bob`)
  const { places, problem } = await lookAround(directory, uidOf)
  t.strictSame(
    places.map(({ user }) => user),
    [null, 'elsewhere'],
  )
  t.match(problem, /nobody-here\/ is ignored: there is no such user/)
})

t.test('lookAround reads a user’s directory only if it is his', async (t) => {
  if (!needs(t, 'root')) return
  const directory = testDirectory(t, { alice: files() })
  chownSync(`${directory}/alice`, 4711, 4711)
  const foreign = await lookAround(directory, async () => 4712)
  t.match(foreign.problem, /alice\/ is not read: it belongs to user 4711, not to alice/)
  const his = await lookAround(directory, async () => 4711)
  t.strictSame(his.places[1]?.owners, new Set([0, 4711]))
})

t.test('lookAround tells a directory that is gone from one that cannot be read', async (t) => {
  const directory = `${testDirectory(t, {})}/mesh.d`
  const gone = await lookAround(directory, uidOf)
  t.match(gone, { places: [], problem: 'cannot be read (it does not exist)' })
  t.notOk(gone.isBlind(directory))
  mkdirSync(directory)
  rmSync(directory, { recursive: true })
  symlinkSync(directory, directory)
  t.ok((await lookAround(directory, uidOf)).isBlind(directory), 'a loop of links')
})
