import t from 'tap'
import { lacks, needs } from './needs.ts'

t.test('needs skips a test with the reason, and lets it run otherwise', async (t) => {
  const plans: string[] = []
  const fake = { plan: (_count: 0, comment: string) => plans.push(comment) }
  const reason = lacks('root')
  t.equal(needs(fake, 'root'), reason === '')
  t.same(plans, reason === '' ? [] : ['needs root'])
})
