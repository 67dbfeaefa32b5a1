import t from 'tap'
import { FarHosts } from '#agent/outbound/far-hosts.ts'
import type { TunnelTarget } from '#agent/tunnel/dial.ts'
import type { HostView } from '#shared/model/snapshot.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { logLines } from '#test/support/log-lines.ts'
import { snapshotOf } from '#test/support/snapshots.ts'

const { hosts: known } = snapshotOf([
  { service: 'orders', host: 'beta' },
  { service: 'orders', host: 'gamma' },
])
const { beta, gamma } = known as { readonly beta: HostView; readonly gamma: HostView }
const target = {} as TunnelTarget

function makeHosts() {
  const clock = new FakeClock()
  const { logger, lines } = logLines()
  const asked: ((answered: boolean) => void)[] = []
  const back: string[] = []
  const tallies: unknown[] = []
  let cancelled = 0
  const hosts = new FarHosts({
    clock,
    random: { fraction: () => 1, bytes: (count) => Buffer.alloc(count) },
    logger,
    counters: { tally: (_, labels) => void tallies.push(labels) },
    ask: (_, done) => {
      asked.push(done)
      return () => void cancelled++
    },
    onBack: ({ name }) => void back.push(name),
  })
  const states = (): readonly unknown[] => lines.map(({ msg }) => msg)
  return { hosts, clock, asked, back, tallies, states, cancelled: () => cancelled }
}

t.test('FarHosts takes a silent host out at once, and asks until it answers', async (t) => {
  const { hosts, clock, asked, back, tallies, states } = makeHosts()
  const [life, other] = [hosts.lifeOf(beta), hosts.lifeOf(gamma)]
  t.equal(hosts.lifeOf({ ...beta }), life, 'one life for all its instances')
  hosts.silent(beta, target)
  hosts.silent(beta, target)
  t.ok(life.isLost)
  t.notOk(other.isLost)
  t.equal(asked.length, 1, 'asked once, however many say so')
  t.same(tallies, [{ host: 'beta' }])
  for (const waitMs of [100, 200, 400, 800, 1000, 1000]) {
    asked.at(-1)?.(false)
    const { length } = asked
    await clock.advance(waitMs - 1)
    t.equal(asked.length, length, 'not before its time')
    await clock.advance(1)
    t.equal(asked.length, length + 1)
  }
  t.ok(life.isLost)
  asked.at(-1)?.(true)
  t.notOk(life.isLost)
  t.same(back, ['beta'])
  t.same(states(), ['far host: answering -> lost', 'far host: lost -> answering'])
  t.equal(clock.pending, 0)
})

t.test('FarHosts believes a lost host that speaks by itself', async (t) => {
  const { hosts, clock, asked, back, cancelled } = makeHosts()
  hosts.heard(beta)
  t.same(back, [], 'nothing to say of a host that was not lost')
  hosts.silent(beta, target)
  hosts.heard(beta)
  t.notOk(hosts.lifeOf(beta).isLost)
  t.equal(cancelled(), 1, 'nobody waits for the answer any more')
  hosts.silent(beta, target)
  asked.at(-1)?.(false)
  hosts.heard(beta)
  t.equal(clock.pending, 0)
  hosts.stop()
})

t.test('FarHosts forgets a host that is gone or has moved', async (t) => {
  const { hosts, clock, asked, states } = makeHosts()
  hosts.silent(beta, target)
  asked[0]?.(false)
  hosts.apply(known)
  t.ok(hosts.lifeOf(beta).isLost)
  hosts.apply({ beta: { ...beta, address: '10.0.0.9' }, gamma })
  t.equal(clock.pending, 0)
  t.same(states(), ['far host: answering -> lost', 'far host: lost -> gone'])
  t.notOk(hosts.lifeOf({ ...beta, address: '10.0.0.9' }).isLost)
  hosts.silent(gamma, target)
  hosts.stop()
  t.equal(clock.pending, 0)
})
