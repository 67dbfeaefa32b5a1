import t from 'tap'
import { LostHosts, type LostHost } from '#agent/discovery/lost-hosts.ts'
import { must, parseHostName, parsePort, parseServiceName } from '#shared/model/names.ts'
import type { HostName } from '#shared/model/names.ts'
import { FakeClock } from '#test/support/fake-clock.ts'

const service = must(parseServiceName('orders'))
const nameOf = (name: string): HostName => must(parseHostName(name))

function hosts(...names: readonly string[]): ReadonlyMap<HostName, LostHost> {
  return new Map(
    names.map((name) => [
      nameOf(name),
      {
        service,
        view: { name: nameOf(name), address: '10.0.0.1', tunnelPort: must(parsePort(15008)) },
      },
    ]),
  )
}

function asking(answerOf: (host: string) => 'proven' | 'silent' | 'unknown') {
  const clock = new FakeClock()
  const asked: string[] = []
  let [now, most] = [0, 0]
  const lost = new LostHosts({
    clock,
    random: { fraction: () => 0.5, bytes: (count) => Buffer.alloc(count) },
    ask(view, _service, done) {
      asked.push(view.name)
      now += 1
      most = Math.max(most, now)
      const timer = clock.after(100, () => {
        now -= 1
        done(answerOf(view.name))
      })
      return () => {
        now -= 1
        timer.stop()
      }
    },
  })
  return { clock, lost, asked, most: () => most }
}

t.test('a host is silent once it has missed two questions, and not for good', async (t) => {
  let answer: 'proven' | 'silent' = 'silent'
  const { clock, lost } = asking(() => answer)
  lost.watch(hosts('a'))
  await clock.advance(100)
  t.equal(lost.isSilent(nameOf('a')), false)
  await clock.advance(500)
  t.equal(lost.isSilent(nameOf('a')), true)
  answer = 'proven'
  await clock.advance(1000)
  t.equal(lost.isSilent(nameOf('a')), false)
  lost.stop()
  t.equal(clock.pending, 0)
})

t.test('a host that cannot be asked is not silent', async (t) => {
  const { clock, lost, asked } = asking(() => 'unknown')
  lost.watch(hosts('a'))
  await clock.advance(60_000)
  t.equal(lost.isSilent(nameOf('a')), false)
  t.ok(asked.length > 10)
  lost.stop()
})

t.test('many hosts are asked few at a time, and those that answer seldom', async (t) => {
  const names = Array.from({ length: 1000 }, (_, index) => `host-${index}`)
  const { clock, lost, asked, most } = asking(() => 'proven')
  lost.watch(hosts(...names))
  await clock.advance(20_000)
  t.equal(new Set(asked).size, 1000, 'everybody has been asked')
  t.ok(most() <= 32)
  const before = asked.length
  await clock.advance(60_000)
  t.ok(asked.length - before <= 4000, `${asked.length - before} questions in a minute`)
  lost.stop()
  t.equal(clock.pending, 0)
})

t.test('who is watched no longer is asked no more', async (t) => {
  const { clock, lost, asked } = asking(() => 'proven')
  lost.watch(hosts('a', 'b'))
  lost.watch(hosts('b'))
  await clock.advance(50)
  asked.length = 0
  await clock.advance(10_000)
  t.strictSame(new Set(asked), new Set(['b']))
  t.equal(lost.names.length, 1)
  lost.stop()
})
