import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { DialTurns, type Dialler, type Turn } from '#agent/tunnel/dial-turns.ts'
import { must, parsePort, parseServiceName } from '#shared/model/names.ts'
import type { StreamTarget } from '#agent/tunnel/tunnels.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { makeTunnelPair, type TunnelPair } from '#test/support/tunnel-pair.ts'
import { until } from '#test/support/until.ts'

/** Wishes for as many tunnels to one place. */
function services(count: number, more: Partial<StreamTarget> = {}): Partial<StreamTarget>[] {
  return Array.from({ length: count }, (_, n) => ({
    ...more,
    service: must(parseServiceName(`orders-${n}`)),
  }))
}

/** A relay to a far agent that holds every connection until it is let through. */
async function makeGate(t: Test, port: number) {
  const held: Socket[] = []
  const sockets: Socket[] = []
  const keep = (socket: Socket): Socket => {
    sockets.push(socket)
    return socket.on('error', () => {})
  }
  const server = createServer((near) => held.push(keep(near))).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  const letThrough = (): void => {
    for (const near of held.splice(0)) {
      near.pipe(keep(connect(port, '127.0.0.1'))).pipe(near)
    }
  }
  return { held, letThrough, port: must(parsePort((server.address() as AddressInfo).port)) }
}

/** Opens streams of one service to one place, but in a group each. */
function openMany(pair: TunnelPair, tunnelPort: StreamTarget['host']['tunnelPort'], count: number) {
  return Array.from({ length: count }, (_, n) => {
    const name = `h${n}` as StreamTarget['host']['name']
    return pair.open({ host: { ...pair.target.host, name, tunnelPort } })
  })
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
  given[0]?.end('unused')
  given[0]?.end('unused')
  t.equal(told.at(-1), '8')
  t.equal(given.length, 10)
  turns.leave('here', all[10] as Dialler)
  given[1]?.end('unused')
  given[2]?.end('unused')
  t.same(told.slice(-2), ['9', '11'], 'but for the one that left')
  turns.ask('here', dialler('late'))
  given[3]?.unreached('tunnel-failed', 'nobody answers')
  t.equal(told.at(-1), 'late: nobody answers')
})

t.test(
  'DialTurns gives more turns while dials work, and few again after one that failed',
  async (t) => {
    const turns = new DialTurns()
    const given: Turn[] = []
    for (let n = 0; n < 100; n++) {
      turns.ask('here', { dial: (turn) => void given.push(turn), unreached() {} })
    }
    let ended = 0
    const end = (how: 'worked' | 'failed'): number => {
      given[ended++]?.end(how)
      return given.length - ended
    }
    t.equal(end('worked'), 9)
    t.equal(end('worked'), 10)
    for (let n = 0; n < 20; n++) end('worked')
    t.equal(given.length - ended, 24)
    t.equal(end('failed'), 23, 'those under way go on')
    while (end('failed') > 8);
    t.equal(end('failed'), 8)
  },
)

t.test(
  'DialTurns tells who waits that nobody answers, unless somebody did meanwhile',
  async (t) => {
    const turns = new DialTurns()
    const given: Turn[] = []
    let told = 0
    const all = Array.from({ length: 20 }, () => ({
      dial: (turn: Turn) => void given.push(turn),
      unreached: () => void told++,
    }))
    for (const one of all) turns.ask('here', one)
    given[1]?.end('worked')
    const last = all.at(-1) as Dialler
    t.equal(turns.workedFor('here', last), 1)
    t.equal(turns.workedFor('here', all[0] as Dialler), null, 'it waits no more')
    given[0]?.unreached('tunnel-failed', 'no answer')
    t.equal(told, 0)
    given.at(-1)?.unreached('tunnel-failed', 'no answer')
    t.equal(told, 20 - given.length)
    t.equal(turns.workedFor('here', last), null)
  },
)

t.test('DialTurns passes on the turns of any number who have no use for one', async (t) => {
  const turns = new DialTurns()
  const given: Turn[] = []
  let passed = 0
  const holds: Dialler = { dial: (turn) => void given.push(turn), unreached() {} }
  for (let n = 0; n < 8; n++) turns.ask('here', { ...holds })
  for (let n = 0; n < 20_000; n++) {
    const dial = (turn: Turn): void => {
      passed++
      turn.end('unused')
    }
    turns.ask('here', { dial, unreached() {} })
  }
  given[0]?.end('unused')
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

const patient = { missingRounds: 100, deadRounds: 1000 }

t.test('One dial without an answer fails alone where others come through', async (t) => {
  const clock = new FakeClock()
  const pair = await makeTunnelPair(t, { clock, tunnels: { connectTimeoutMs: 1000, ...patient } })
  const gate = await makeGate(t, pair.listener.port)
  const opening = Promise.all(openMany(pair, gate.port, 40))
  await until('the first are dialled', () => gate.held.length === 8)
  await clock.advance(750)
  gate.held.shift()
  gate.letThrough()
  await until('those that came through made room', () => gate.held.length === 14)
  await clock.advance(250)
  for (let left = 39 - 7; left > 0; left -= gate.held.length, gate.letThrough()) {
    await until('more are dialled', () => gate.held.length > 0)
  }
  const ends = await opening
  t.match(ends[0], { reason: 'tunnel-failed', detail: /within 1000 ms/ })
  t.equal(ends.filter(({ kind }) => kind === 'open').length, 39)
})

t.test(
  'Tunnels to a distant host come up few at a time, however long the last ones wait',
  async (t) => {
    const clock = new FakeClock()
    const pair = await makeTunnelPair(t, { clock, tunnels: { openTimeoutMs: 2000, ...patient } })
    const gate = await makeGate(t, pair.listener.port)
    const opening = Promise.all(openMany(pair, gate.port, 80))
    for (const count of [8, 16, 24, 24, 8]) {
      await until('all that may be are dialled', () => gate.held.length >= count)
      await clock.advance(1000)
      t.equal(gate.held.length, count)
      gate.letThrough()
    }
    for (const end of await opening) t.match(end, { kind: 'open' })
    t.equal(pair.tunnels.openTunnels, 80)
  },
)

t.test('Who waits for its turn is refused where no tunnel comes to work', async (t) => {
  const clock = new FakeClock()
  const pair = await makeTunnelPair(t, { clock, tunnels: { openTimeoutMs: 2000, ...patient } })
  const gate = await makeGate(t, pair.listener.port)
  const ends = openMany(pair, gate.port, 9)
  await until('all that may be are dialled', () => gate.held.length === 8)
  await clock.advance(4000)
  const detail = /takes no tunnels now, and others were to come first/
  t.match(await ends[8], { reason: 'tunnel-failed', detail })
})
