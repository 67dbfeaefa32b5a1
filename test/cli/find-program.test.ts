import t from 'tap'
import { findProgram } from '#cli/find-program.ts'

t.test('findProgram finds what is there and answers null for what is not', async (t) => {
  t.match(findProgram('sh'), /^\/.*\/sh$/)
  t.equal(findProgram('no-such-program-anywhere'), null)
})
