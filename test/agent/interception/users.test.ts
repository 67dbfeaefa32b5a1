import t from 'tap'
import { userNumber } from '#agent/interception/users.ts'

t.test('userNumber knows names, numbers, and who is not there', async (t) => {
  t.equal(await userNumber('root'), 0)
  t.equal(await userNumber('1001'), 1001)
  t.equal(await userNumber('no-such-user-here'), null)
})
