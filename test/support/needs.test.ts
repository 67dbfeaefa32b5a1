import t from 'tap'
import { findProgram, lacks, needs } from './needs.ts'

t.test('needs skips a test with the reason, and lets it run otherwise', async (t) => {
  const plans: string[] = []
  const fake = { plan: (_count: 0, comment: string) => plans.push(comment) }
  const reason = lacks('root')
  t.equal(needs(fake, 'root'), reason === '')
  t.same(plans, reason === '' ? [] : ['needs root'])
})

t.test('findProgram finds what is there and answers null for what is not', async (t) => {
  t.match(findProgram('sh'), /^\/.*\/sh$/)
  t.equal(findProgram('no-such-program-anywhere'), null)
})
