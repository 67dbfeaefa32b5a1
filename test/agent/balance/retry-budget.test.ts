import t from 'tap'
import { RetryBudget } from '#agent/balance/retry-budget.ts'

function spendAll(budget: RetryBudget, now: number): number {
  let count = 0
  while (budget.spend(now)) count++
  return count
}

t.test('RetryBudget allows a few retries a second without any traffic', (t) => {
  const budget = new RetryBudget()
  t.equal(spendAll(budget, 0), 10)
  t.equal(spendAll(budget, 500), 5)
  t.equal(spendAll(budget, 60_000), 10, 'idle time is not saved up')
  t.end()
})

t.test('RetryBudget earns a fifth of the requests and saves up a hundred at most', (t) => {
  const budget = new RetryBudget()
  spendAll(budget, 0)
  for (let i = 0; i < 101; i++) budget.requested()
  t.equal(spendAll(budget, 0), 20)
  for (let i = 0; i < 10_000; i++) budget.requested()
  t.equal(spendAll(budget, 0), 100)
  t.end()
})
