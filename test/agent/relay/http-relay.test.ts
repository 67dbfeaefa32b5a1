import t from 'tap'
import { FakeChannel } from '#test/support/fake-channel.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { RelayRig, type RigSettings } from '#test/support/relay-rig.ts'

type Test = Parameters<typeof RelayRig.start>[0]

/** A relay between channels that the test plays, under a clock that it turns. */
async function played(t: Test, settings: Partial<RigSettings> = {}) {
  const clock = new FakeClock()
  const rig = await RelayRig.start(t, { upstreams: [{ port: 1 }], clock, ...settings })
  const services: FakeChannel[] = []
  for (const upstream of rig.upstreams) {
    upstream.open = (opener) => {
      const channel = new FakeChannel()
      services.push(channel)
      opener.onOpen(channel)
    }
  }
  const caller = new FakeChannel()
  const relay = rig.relay(caller)
  relay.start()
  return { clock, rig, caller, relay, services }
}

/** One turn of the event loop: channels come back to their pool at its end. */
const turn = () => new Promise<void>((resolve) => setImmediate(() => setImmediate(resolve)))

const get = 'GET / HTTP/1.1\r\nHost: orders\r\n\r\n'
const ok = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'

t.test('a head that trickles in is cut after its time, whole seconds late at most', async (t) => {
  const { clock, rig, caller } = await played(t)
  await clock.advance(200_000)
  for (const char of 'GET / HTTP') {
    caller.says(char)
    await clock.advance(999)
  }
  t.equal(caller.heard, '')
  await clock.advance(2000)
  t.match(caller.heard, /^HTTP\/1\.1 408 Request Timeout\r\n[\s\S]*x-mesh-reason: head-timeout/)
  t.match(rig.outcomes, [{ reason: 'head-timeout', status: 408, attempts: 0 }])
  caller.close(null)
  t.equal(rig.watch.size, 0)
})

t.test('a connection that nobody uses is ended without a word', async (t) => {
  const { clock, rig, caller } = await played(t)
  await clock.advance(299_000)
  t.notOk(caller.ended)
  await clock.advance(3000)
  t.ok(caller.ended)
  t.equal(caller.heard, '')
  t.equal(rig.outcomes.length, 0)
  await clock.advance(310_000)
  t.ok(caller.aborted, 'and for good when the caller does not go')
  t.equal(rig.watch.size, 0)
})

t.test('a body that stalls is the caller’s fault', async (t) => {
  const { clock, rig, caller, services } = await played(t)
  caller.says('POST / HTTP/1.1\r\nHost: orders\r\nContent-Length: 9\r\n\r\nhalf')
  await clock.advance(59_000)
  caller.says('more')
  await clock.advance(59_000)
  t.equal(caller.heard, '')
  await clock.advance(3000)
  t.match(caller.heard, /^HTTP\/1\.1 408 [\s\S]*body-timeout/)
  t.ok(services[0]?.aborted)
  t.match(rig.outcomes, [{ reason: 'body-timeout', status: 408 }])
  t.same(rig.upstreams[0]?.results, ['abandoned'])
})

t.test('a body of which nothing ever comes has no longer', async (t) => {
  for (const direction of ['outbound', 'inbound'] as const) {
    const { clock, rig, caller } = await played(t, { direction })
    caller.says('POST / HTTP/1.1\r\nHost: orders\r\nContent-Length: 9\r\n\r\n')
    await clock.advance(59_000)
    t.equal(caller.heard, '')
    await clock.advance(3000)
    t.match(caller.heard, /^HTTP\/1\.1 408 [\s\S]*body-timeout/)
    t.match(rig.outcomes, [{ reason: 'body-timeout', status: 408 }])
    rig.stop()
  }
})

t.test('a body that waits to be asked for is first the service’s turn', async (t) => {
  const text =
    'POST / HTTP/1.1\r\nHost: orders\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n'
  for (const asked of [false, true]) {
    const { clock, rig, caller, services } = await played(t)
    caller.says(text)
    await clock.advance(250_000)
    t.equal(caller.heard, '')
    if (asked) services[0]?.says('HTTP/1.1 100 Continue\r\n\r\n')
    await clock.advance(45_000)
    t.equal(rig.outcomes.length, 0)
    await clock.advance(17_000)
    const reason = asked ? 'body-timeout' : 'response-timeout'
    t.match(rig.outcomes, [{ reason, status: asked ? 408 : 504 }])
    rig.stop()
  }
})

t.test('a body that the service takes up again is the caller’s turn', async (t) => {
  const { clock, rig, caller, services } = await played(t)
  caller.says('POST / HTTP/1.1\r\nHost: orders\r\nContent-Length: 9\r\n\r\n')
  const [service] = services
  if (service === undefined) throw new Error('no channel')
  service.full = true
  caller.says('half')
  await clock.advance(280_000)
  service.drains()
  await clock.advance(59_000)
  t.equal(caller.heard, '')
  await clock.advance(3000)
  t.match(rig.outcomes, [{ reason: 'body-timeout', status: 408 }])
})

t.test('a whole body that the service takes late leaves it its time to answer', async (t) => {
  const { clock, rig, caller, services } = await played(t)
  caller.says('POST / HTTP/1.1\r\nHost: orders\r\nContent-Length: 4\r\n\r\n')
  const [service] = services
  if (service === undefined) throw new Error('no channel')
  service.full = true
  caller.says('body')
  await clock.advance(280_000)
  service.drains()
  await clock.advance(290_000)
  t.equal(rig.outcomes.length, 0)
  await clock.advance(12_000)
  t.match(rig.outcomes, [{ reason: 'response-timeout', status: 504 }])
})

t.test('a body that waits for the service is the service’s fault', async (t) => {
  const { clock, rig, caller, services } = await played(t)
  caller.says('POST / HTTP/1.1\r\nHost: orders\r\nContent-Length: 9\r\n\r\n')
  const [service] = services
  if (service === undefined) throw new Error('no channel')
  service.full = true
  caller.says('half')
  t.ok(caller.paused)
  await clock.advance(299_000)
  t.equal(caller.heard, '')
  await clock.advance(3000)
  t.match(caller.heard, /^HTTP\/1\.1 504 [\s\S]*response-timeout/)
  t.same(rig.upstreams[0]?.results, ['reset'])
})

t.test('a service that does not answer is given up', async (t) => {
  const { clock, rig, caller, services } = await played(t)
  caller.says(get)
  await clock.advance(299_000)
  services[0]?.says('HTTP/1.1 2')
  await clock.advance(3000)
  t.match(caller.heard, /^HTTP\/1\.1 504 Gateway Timeout\r\n/, 'half a head is no answer')
  t.ok(services[0]?.aborted)
  t.match(rig.outcomes, [{ reason: 'response-timeout', status: 504 }])
  caller.says(get)
  t.equal(services.length, 2, 'the caller’s connection goes on')
})

t.test(
  'a caller that has ended its side is waited for less long, and the service not blamed',
  async (t) => {
    const { clock, rig, caller, services } = await played(t)
    caller.says(get)
    caller.saysEnd()
    await clock.advance(29_000)
    t.equal(rig.outcomes.length, 0)
    await clock.advance(3000)
    t.match(rig.outcomes, [{ reason: 'caller-aborted', status: 499 }])
    t.ok(caller.aborted)
    t.ok(services[0]?.aborted)
    t.same(rig.upstreams[0]?.results, ['abandoned'])
  },
)

t.test('a response that stalls under way is a reset', async (t) => {
  const { clock, rig, caller, services } = await played(t)
  caller.says(get)
  services[0]?.says('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf')
  await clock.advance(290_000)
  services[0]?.says('more')
  await clock.advance(290_000)
  t.notOk(caller.aborted)
  await clock.advance(12_000)
  t.ok(caller.aborted)
  t.match(rig.outcomes, [{ reason: 'response-timeout', status: 200 }])
  t.same(rig.upstreams[0]?.results, ['reset'])
})

t.test('a response that nobody reads is the caller’s fault', async (t) => {
  const { clock, rig, caller, services } = await played(t)
  caller.says(get)
  caller.full = true
  services[0]?.says('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf')
  t.ok(services[0]?.paused)
  await clock.advance(302_000)
  t.ok(caller.aborted)
  t.match(rig.outcomes, [{ reason: 'caller-aborted', status: 200 }])
  t.same(rig.upstreams[0]?.results, ['abandoned'])
})

t.test('backpressure reaches from each side to the other, and is lifted again', async (t) => {
  const { rig, caller, services } = await played(t)
  caller.says('POST / HTTP/1.1\r\nHost: orders\r\nContent-Length: 8\r\n\r\n')
  const [service] = services
  if (service === undefined) throw new Error('no channel')
  service.full = true
  caller.says('1234')
  t.ok(caller.paused)
  service.drains()
  t.notOk(caller.paused)
  caller.says('5678')
  caller.full = true
  service.says('HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n1234')
  t.ok(service.paused)
  caller.drains()
  t.notOk(service.paused)
  caller.full = true
  service.says('5678')
  await turn()
  t.notOk(service.paused, 'a channel goes back to its pool unpaused')
  t.equal(rig.upstreams[0]?.pool.idle, 1)
  t.ok(caller.paused, 'and no further request is read meanwhile')
  caller.says(get)
  t.equal(service.heard.split('GET /').length, 1)
  caller.drains()
  t.equal(service.heard.split('GET /').length, 2)
})

t.test('requests that wait their turn hold the caller up at 64 KiB', async (t) => {
  const { caller, services } = await played(t)
  caller.says(get)
  for (let sent = 0; sent < 60_000; sent += 1000) caller.says('x'.repeat(1000))
  t.notOk(caller.paused, 'so that its going away is noticed')
  for (let sent = 0; sent < 60_000 && !caller.paused; sent += 1000) caller.says('x'.repeat(1000))
  t.ok(caller.paused)
  services[0]?.says(ok)
  t.match(caller.heard, /200 OK[\s\S]*431 Request Header Fields Too Large/)
})

t.test('drain lets the request under way finish and says goodbye with it', async (t) => {
  const { clock, rig, caller, services } = await played(t)
  caller.says(get)
  let drained = false
  const draining = rig.watch.drain().then(() => (drained = true))
  await clock.advance(60_000)
  t.notOk(drained)
  services[0]?.says(ok)
  t.match(caller.heard, 'connection: close\r\n\r\nok')
  t.ok(caller.ended)
  caller.close(null)
  await draining
  t.ok(drained)
})

t.test('drain gives an idle connection a moment, and answers what comes in it', async (t) => {
  const { clock, rig, caller, services } = await played(t)
  const draining = rig.watch.drain()
  await clock.advance(400)
  t.notOk(caller.ended)
  caller.says(get)
  services[0]?.says(ok)
  t.match(caller.heard, 'connection: close\r\n\r\nok')
  caller.close(null)
  const late = new FakeChannel()
  rig.relay(late).start()
  await clock.advance(2500)
  t.ok(late.ended, 'one that came during the drain too')
  late.close(null)
  await draining
})

t.test(
  'a connection whose response was on its way as the drain began waits no longer',
  async (t) => {
    for (const direction of ['outbound', 'inbound'] as const) {
      const { clock, rig, caller, services } = await played(t, { direction })
      caller.says(get)
      services[0]?.says('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n')
      const draining = rig.watch.drain()
      services[0]?.says('ok')
      t.notMatch(caller.heard, 'connection: close', 'it was told that it may go on')
      t.notOk(caller.ended)
      await clock.advance(3000)
      t.ok(caller.ended, direction)
      caller.close(null)
      await draining
    }
  },
)

t.test('a caller that is slow to read is waited for when its worker drains, too', async (t) => {
  for (const direction of ['outbound', 'inbound'] as const) {
    const { clock, rig, caller, services } = await played(t, { direction })
    caller.says(get)
    services[0]?.says('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n')
    const draining = rig.watch.drain()
    caller.full = true
    services[0]?.says('ok')
    await clock.advance(100_000)
    t.ok(caller.ended, direction)
    t.notOk(caller.aborted, 'what was written has not gone out yet')
    caller.drains()
    caller.close(null)
    await draining
  }
})

t.test('a caller that is slow to read its last response is waited for', async (t) => {
  const { clock, rig, caller, services } = await played(t)
  caller.says('GET / HTTP/1.1\r\nHost: orders\r\nConnection: close\r\n\r\n')
  services[0]?.says(ok)
  t.ok(caller.ended)
  await clock.advance(100_000)
  t.notOk(caller.aborted, 'what was written has not gone out yet')
  caller.saysEnd()
  t.notOk(caller.aborted, 'nor does its own goodbye cut it')
  caller.drains()
  await clock.advance(7000)
  t.ok(caller.aborted, 'but not for ever')
  t.equal(rig.watch.size, 0)
})

t.test('every ending leaves one outcome and one finish for each start', async (t) => {
  type Play = Awaited<ReturnType<typeof played>>
  const endings: readonly ((play: Play) => void)[] = [
    ({ services }) => services[0]?.says(ok),
    ({ services }) => services[0]?.says('nonsense\r\n\r\n'),
    ({ services }) => services[0]?.says(`${ok}more`),
    ({ services }) => services[0]?.saysEnd(),
    ({ services }) => services[0]?.close(null),
    ({ services }) => services[0]?.close({ code: 'ECONNRESET', message: '' }),
    ({ caller }) => caller.close(null),
    ({ caller }) => caller.close({ code: 'ECONNRESET', message: '' }),
    ({ caller }) => caller.saysEnd(),
    ({ relay }) => relay.expired(),
    ({ relay }) => relay.drain(1000),
  ]
  const texts = [get, 'POST / HTTP/1.1\r\nHost: orders\r\nContent-Length: 9\r\n\r\nhalf', get + get]
  for (const text of texts) {
    for (const [i, first] of endings.entries()) {
      for (const [j, second] of endings.entries()) {
        const play = await played(t)
        play.caller.says(text)
        first(play)
        second(play)
        await turn()
        play.relay.expired()
        play.caller.close(null)
        await turn()
        const [upstream] = play.rig.upstreams
        t.equal(upstream?.attempts, upstream?.results.length, `${text.slice(0, 4)} ${i} ${j}`)
        const begun = new Set(play.rig.outcomes.map(({ requestId }) => requestId))
        t.equal(begun.size, play.rig.outcomes.length, 'no request is recorded twice')
        t.ok(play.rig.outcomes.length >= 1)
        t.equal(play.rig.watch.size, 0)
        play.rig.stop()
      }
    }
  }
})

t.test('the time until a service takes the connection counts as the service’s', async (t) => {
  const { clock, rig, caller } = await played(t)
  const [upstream] = rig.upstreams
  if (upstream !== undefined) upstream.open = () => {}
  caller.says('POST / HTTP/1.1\r\nHost: orders\r\nContent-Length: 4\r\n\r\nbody')
  await clock.advance(302_000)
  t.match(caller.heard, /^HTTP\/1\.1 504 /)
  t.match(rig.outcomes, [{ reason: 'response-timeout' }])
})

t.test('requests alike to the last byte are requests of their own all the same', async (t) => {
  const { rig, caller, services } = await played(t)
  const ids = new Set<string>()
  for (let i = 0; i < 3; i++) {
    caller.says(get)
    const service = services[0]
    if (service === undefined) throw new Error('no channel')
    const heard = service.heard.split('GET / HTTP/1.1').at(-1) ?? ''
    ids.add(/x-request-id: (\S+)/.exec(heard)?.[1] ?? '')
    service.says(i === 1 ? ok.replace('ok', 'no') : ok)
    await turn()
  }
  t.equal(ids.size, 3, 'each has an id of its own')
  t.equal(rig.outcomes.length, 3)
  t.match(caller.heard, /ok[\s\S]*no[\s\S]*ok$/)
})

t.test('a caller that changes its fields is heard anew', async (t) => {
  const { caller, services } = await played(t)
  for (const value of ['1', '2', '2', '1']) {
    caller.says(`GET /${value} HTTP/1.1\r\nHost: orders\r\nX-A: ${value}\r\n\r\n`)
    const [service] = services
    t.match(service?.heard.split('\r\n\r\n').at(-2), `GET /${value} HTTP/1.1`)
    t.match(service?.heard.split('\r\n\r\n').at(-2), `X-A: ${value}`)
    service?.says(ok)
    await turn()
  }
})

t.test(
  'a connection keeps nothing of its requests while none comes, and serves the next',
  async (t) => {
    const { clock, rig, caller, services } = await played(t)
    for (const round of [1, 2, 3]) {
      caller.says(get)
      // The first finds a new channel, the others the one that was given back.
      services[0]?.says(ok)
      t.match(rig.outcomes, { length: round })
      t.match(rig.outcomes[round - 1], { status: 200, reason: 'ok' })
      await turn()
      t.equal(rig.rests, round - 1, 'not while requests come')
      await clock.advance(3000)
      t.equal(rig.rests, round)
    }
    t.equal(services.length, 1)
    await clock.advance(295_000)
    t.notOk(caller.ended, 'the time it may be idle is the same')
    await clock.advance(6000)
    t.ok(caller.ended)
  },
)
