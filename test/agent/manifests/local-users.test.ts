import t from 'tap'
import { LocalUsers } from '#agent/manifests/local-users.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { testDirectory } from '#test/support/test-directory.ts'

t.test('LocalUsers answers from the file of users', async (t) => {
  const file = `${testDirectory(t, { passwd: 'root:x:0:0::/:/bin/sh\nalice:x:4711:1::/:\nbad:x:y:1::\n' })}/passwd`
  const users = new LocalUsers({ clock: new FakeClock() }, { file })
  t.equal(await users.uidOf('alice'), 4711)
  t.equal(await users.uidOf('root'), 0)
  for (const nobody of ['bad', 'no-such-user-here', '../alice', '-x', '', 'alice:x']) {
    t.equal(await users.uidOf(nobody), null, nobody)
  }
})

t.test('LocalUsers asks the machine for those the file lacks', async (t) => {
  const users = new LocalUsers({ clock: new FakeClock() }, { file: `${testDirectory(t, {})}/none` })
  t.equal(await users.uidOf('root'), 0)
})
