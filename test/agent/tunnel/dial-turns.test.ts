import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import t from 'tap'
import { DialTurns, type Dialler, type Turn } from '#agent/tunnel/dial-turns.ts'
import { must, parsePort, parseServiceName } from '#shared/model/names.ts'
import type { StreamTarget } from '#agent/tunnel/tunnels.ts'
import { makeTunnelPair } from '#test/support/tunnel-pair.ts'

/** Wishes for as many tunnels to one place. */
function services(count: number, more: Partial<StreamTarget> = {}): Partial<StreamTarget>[] {
  return Array.from({ length: count }, (_, n) => ({
    ...more,
    service: must(parseServiceName(`orders-${n}`)),
  }))
}

t.test('DialTurns gives a place few turns at a time, each once, in order', async (t) => {
  const turns = new DialTurns()
  const given: Turn[] = []
  const told: string[] = []
  const dialler = (name: string): Dialler => ({
    dial: (turn) => {
      given.push(turn)
      told.push(name)
    },
    unreached: (_, detail) => told.push(`${name}: ${detail}`),
  })
  const all = Array.from({ length: 12 }, (_, n) => dialler(String(n)))
  for (const one of all) turns.ask('here', one)
  t.equal(given.length, 8)
  turns.ask('elsewhere', dialler('other'))
  t.equal(given.length, 9, 'another place has turns of its own')
  given[0]?.end()
  given[0]?.end()
  t.equal(told.at(-1), '8')
  t.equal(given.length, 10)
  turns.leave('here', all[10] as Dialler)
  given[1]?.end()
  given[2]?.end()
  t.same(told.slice(-2), ['9', '11'], 'but for the one that left')
  turns.ask('here', dialler('late'))
  turns.unreachable('here', 'tunnel-failed', 'nobody answers')
  t.equal(told.at(-1), 'late: nobody answers')
})

t.test('DialTurns passes on the turns of any number who have no use for one', async (t) => {
  const turns = new DialTurns()
  const given: Turn[] = []
  let passed = 0
  const holds: Dialler = { dial: (turn) => void given.push(turn), unreached() {} }
  for (let n = 0; n < 8; n++) turns.ask('here', { ...holds })
  for (let n = 0; n < 20_000; n++) {
    const dial = (turn: Turn): void => {
      passed++
      turn.end()
    }
    turns.ask('here', { dial, unreached() {} })
  }
  given[0]?.end()
  t.equal(passed, 20_000)
})

t.test('Tunnels to a host that does not answer are few, and all who wait hear of it', async (t) => {
  const pair = await makeTunnelPair(t, { tunnels: { connectTimeoutMs: 200 } })
  let dialled = 0
  const mute = createServer(() => dialled++).listen(0, '127.0.0.1')
  await once(mute, 'listening')
  t.teardown(() => mute.close())
  const tunnelPort = must(parsePort((mute.address() as AddressInfo).port))
  const host = { ...pair.target.host, tunnelPort }
  const ends = await Promise.all(services(40, { host }).map((one) => pair.open(one)))
  for (const end of ends) t.match(end, { reason: 'tunnel-failed', detail: /within 200 ms/ })
  t.equal(dialled, 8)
})

t.test('Tunnels to one host come up one after the other, however many there are', async (t) => {
  const pair = await makeTunnelPair(t)
  // Of one service and to one place, but a group each.
  const names = Array.from({ length: 40 }, (_, n) => `h${n}` as typeof pair.target.host.name)
  const hosts = names.map((name) => ({ ...pair.target.host, name }))
  const ends = await Promise.all(hosts.map((host) => pair.open({ host })))
  t.equal(ends.filter(({ kind }) => kind === 'open').length, 40)
  t.equal(pair.tunnels.openTunnels, 40)
})
