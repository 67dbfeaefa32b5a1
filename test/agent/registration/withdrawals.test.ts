import { writeFileSync } from 'node:fs'
import t from 'tap'
import { setRotation } from '#agent/registration/rotation-commands.ts'
import { Withdrawals } from '#agent/registration/withdrawals.ts'
import { must, parseHostName, parseServiceName } from '#shared/model/names.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { logLines } from '#test/support/log-lines.ts'
import { testDirectory } from '#test/support/test-directory.ts'

const orders = must(parseServiceName('orders'))
const users = must(parseServiceName('users'))
const host = must(parseHostName('alpha'))

async function withdrawalsIn(stateDirectory: string, served = [orders, users]) {
  const { logger, lines } = logLines()
  const withdrawals = new Withdrawals({ clock: new FakeClock(), logger }, { stateDirectory })
  await withdrawals.load()
  let changes = 0
  withdrawals.onChange(() => (changes += 1))
  const tell = (target: unknown, withdrawn: unknown, reason: unknown = '', kind?: unknown) => {
    const parts = { withdrawals, served: () => served }
    return setRotation(parts, { host }, { target, withdrawn, reason, kind })
  }
  return { withdrawals, lines, tell, changes: () => changes }
}

t.test('what is taken out of rotation stays so over a restart, until it is put back', async (t) => {
  const directory = testDirectory(t, {})
  const first = await withdrawalsIn(directory)
  t.equal(first.withdrawals.of(orders), null)
  t.match(await first.tell('orders', true, 'new disk'), {
    kind: 'done',
    value: { services: ['orders'] },
  })
  t.equal(first.changes(), 1)
  const second = await withdrawalsIn(directory)
  t.match(second.withdrawals.of(orders), { reason: 'new disk' })
  t.equal(second.withdrawals.of(users), null)
  await second.tell('orders', false)
  t.equal((await withdrawalsIn(directory)).withdrawals.of(orders), null)
})

t.test('the host stands for everything on it, and neither hides the other', async (t) => {
  const { withdrawals, tell } = await withdrawalsIn(testDirectory(t, {}))
  await tell('orders', true)
  t.match(await tell('alpha', true, 'move'), { value: { services: ['orders', 'users'] } })
  t.match(withdrawals.of(users), { reason: 'move' })
  t.match(withdrawals.host, { reason: 'move' })
  t.match(await tell('users', false), { code: 'still-out', hint: /meshctl maintenance off/ })
  t.match(await tell('alpha', false), {
    code: 'still-out',
    problem: /orders/,
    hint: /meshctl undrain SERVICE/,
  })
  t.equal(withdrawals.of(users), null)
  t.match(await tell('orders', false), { kind: 'done' })
})

t.test('a service that is called like the host does not stand in for it', async (t) => {
  const alpha = must(parseServiceName('alpha'))
  const { withdrawals, tell } = await withdrawalsIn(testDirectory(t, {}), [orders, alpha])
  t.match(await tell('alpha', true, 'new disk', 'host'), {
    value: { services: ['orders', 'alpha'] },
  })
  t.match(withdrawals.of(orders), { reason: 'new disk' })
  t.match(await tell('alpha', false), {
    code: 'still-out',
    hint: 'the whole host is out: meshctl maintenance off',
  })
  t.match(await tell('alpha', false, '', 'host'), { value: { services: ['orders', 'alpha'] } })
  t.equal(withdrawals.of(orders), null)
  await tell('alpha', true)
  t.equal(withdrawals.of(orders), null, 'without more the service is meant')
  t.match(await tell('orders', true, '', 'host'), { code: 'not-here' })
  t.match(await tell('alpha', true, '', 'service'), { code: 'bad-input' })
})

t.test('who puts back for a reason puts back only what is out for that one', async (t) => {
  const { withdrawals, tell, changes } = await withdrawalsIn(testDirectory(t, {}))
  await tell('orders', true, 'new disk')
  t.match(await tell('orders', false, 'its unit stops'), { kind: 'done', value: { services: [] } })
  t.match(withdrawals.of(orders), { reason: 'new disk' })
  // Whoever took it out first counts.
  await tell('orders', true, 'its unit stops')
  await tell('orders', false, 'its unit stops')
  t.match(withdrawals.of(orders), { reason: 'new disk' })
  await tell('orders', false)
  await tell('orders', true, 'its unit stops')
  const before = changes()
  await tell('orders', false, 'its unit stops')
  t.equal(withdrawals.of(orders), null)
  t.equal(changes(), before + 1)
  t.match(await tell('orders', false, 'its unit stops'), { value: { services: [] } })
})

t.test('what is neither served here nor this host is refused', async (t) => {
  const { tell, changes } = await withdrawalsIn(testDirectory(t, {}))
  for (const target of ['billing', 'beta', '', '../x', '__proto__']) {
    t.match(await tell(target, true), { kind: 'refused', code: 'not-here' }, target)
  }
  for (const [target, withdrawn, reason] of [
    [5, true, ''],
    ['orders', 'yes', ''],
    ['orders', true, null],
  ]) {
    t.match(await tell(target, withdrawn, reason), { code: 'bad-input' })
  }
  t.equal(changes(), 0)
})

t.test('a damaged file is told and left aside', async (t) => {
  const directory = testDirectory(t, { 'withdrawn.json': '{"services": {"orders": {"since' })
  const damaged = await withdrawalsIn(directory)
  t.equal(damaged.withdrawals.of(orders), null)
  t.match(damaged.lines, [{ level: 'error', msg: /cannot be read/ }])
  const odd = { host: 5, services: { orders: { sinceMs: 1, reason: 'x' }, users: {}, 'A!': {} } }
  writeFileSync(`${directory}/withdrawn.json`, JSON.stringify(odd))
  const { withdrawals } = await withdrawalsIn(directory)
  t.match(withdrawals.of(orders), { reason: 'x' })
  t.equal(withdrawals.host, null)
  t.equal(withdrawals.of(users), null)
})
