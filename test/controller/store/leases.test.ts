import t from 'tap'
import { Leases } from '#controller/store/leases.ts'
import { FakeClock } from '#test/support/fake-clock.ts'

const lease = (id: string, ttlSeconds = 15): { id: string; ttlSeconds: number; owner: string } => ({
  id,
  ttlSeconds,
  owner: '',
})

function make(clock = new FakeClock()): {
  clock: FakeClock
  leases: Leases
  lapsed: string[]
} {
  const lapsed: string[] = []
  const leases = new Leases({ clock, onLapsed: (id) => lapsed.push(id) }, [])
  return { clock, leases, lapsed }
}

t.test('Leases tells of a lease that nobody renewed, once', async (t) => {
  const { clock, leases, lapsed } = make()
  leases.arm(lease('1', 2))
  await clock.advance(1900)
  t.strictSame(lapsed, [])
  t.match(leases.remaining('1'), { seconds: 0, ttlSeconds: 2 })
  await clock.advance(600)
  t.strictSame(lapsed, ['1'])
  t.equal(leases.remaining('1'), null, 'lapsed means gone, though its keys are still there')
  t.equal(leases.renew('1'), 0)
  await clock.advance(5000)
  t.strictSame(lapsed, ['1'])
})

t.test('Leases gives a renewed lease its full time', async (t) => {
  const { clock, leases, lapsed } = make()
  leases.arm(lease('1', 3))
  for (let at = 0; at < 5; at++) {
    await clock.advance(2500)
    t.equal(leases.renew('1'), 3)
  }
  t.strictSame(lapsed, [])
  await clock.advance(3500)
  t.strictSame(lapsed, ['1'])
})

t.test('Leases tells again of a lease whose end failed', async (t) => {
  const { clock, leases, lapsed } = make()
  leases.arm(lease('1', 2))
  await clock.advance(2500)
  leases.arm(lease('1', 2))
  await clock.advance(2500)
  t.strictSame(lapsed, ['1', '1'])
  leases.drop('1')
  await clock.advance(5000)
  t.strictSame(lapsed, ['1', '1'])
})

t.test('Leases gives back the time in which this process did not run', async (t) => {
  const sweeps: (() => void)[] = []
  let now = 0
  const clock = {
    now: () => now,
    elapsed: () => now,
    after: () => ({ stop: () => {} }),
    every: (_ms: number, run: () => void) => {
      sweeps.push(run)
      return { stop: () => {} }
    },
  }
  const lapsed: string[] = []
  const leases = new Leases({ clock, onLapsed: (id) => lapsed.push(id) }, [lease('1')])
  const sweepAt = (ms: number): void => {
    now = ms
    for (const sweep of sweeps) sweep()
  }
  sweepAt(500)
  sweepAt(60_000)
  t.strictSame(lapsed, [], 'nobody could have renewed it')
  t.match(leases.remaining('1'), { seconds: 14 })
  for (let ms = 60_500; ms <= 75_500; ms += 500) sweepAt(ms)
  t.strictSame(lapsed, ['1'])
})
