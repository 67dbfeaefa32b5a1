import t from 'tap'
import { TcpRelay, type TcpRelayFacts } from '#agent/relay/tcp-relay.ts'
import { RelayWatch } from '#agent/relay/relay-watch.ts'
import { SocketChannel } from '#agent/relay/socket-channel.ts'
import { systemClock } from '#shared/lifecycle/clock.ts'
import type { Clock } from '#shared/lifecycle/clock.ts'
import type { Outcome } from '#shared/model/outcome.ts'
import type { Refusal } from '#shared/policy/refusal.ts'
import { mintPermit } from '#shared/policy/permit.ts'
import type { Channel } from '#agent/platform.ts'
import { FakeChannel } from '#test/support/fake-channel.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { RawPeer, RawServer } from '#test/support/raw-peer.ts'

const facts: TcpRelayFacts = {
  direction: 'outbound',
  source: null,
  destination: null,
  service: null,
  host: null,
  instance: null,
  mtls: false,
  attempts: 1,
}

function relayOf(
  caller: Channel,
  service: Channel,
  clock: Clock = systemClock,
  more: Partial<TcpRelayFacts> = {},
) {
  const outcomes: Outcome[] = []
  const watch = new RelayWatch({ clock })
  const done = Promise.withResolvers<Outcome>()
  const policy: { says: Refusal | null } = { says: null }
  const record = (outcome: Outcome) => {
    outcomes.push(outcome)
    done.resolve(outcome)
  }
  new TcpRelay(
    {
      caller,
      service,
      outcomes: { record },
      watch,
      clock,
      steps: { reconsider: () => policy.says },
    },
    { ...facts, ...more },
    mintPermit('test'),
  ).start()
  return { outcomes, watch, policy, over: done.promise }
}

const nobody = { onData() {}, onEnd() {}, onDrain() {}, onClose() {} }

/** Two raw ends with a relay between them. */
async function spliced(t: { readonly teardown: (run: () => void) => void }) {
  const front = await RawServer.listen()
  const back = await RawServer.listen()
  const [caller, way] = [await RawPeer.connect(front.port), await RawPeer.connect(back.port)]
  const near = await front.peer(0)
  const service = await back.peer(0)
  near.socket.removeAllListeners()
  way.socket.removeAllListeners()
  t.teardown(() => {
    front.stop()
    back.stop()
    for (const { socket } of [caller, way]) socket.destroy()
  })
  const relay = relayOf(
    new SocketChannel(near.socket, nobody),
    new SocketChannel(way.socket, nobody),
  )
  return { caller, service, ...relay }
}

t.test('bytes pass both ways, and each half-close on its own', async (t) => {
  for (const first of ['caller', 'service'] as const) {
    const { caller, service, over, outcomes, watch } = await spliced(t)
    service.write('220 hello')
    await caller.until('220 hello')
    caller.write('EHLO')
    await service.until('EHLO')
    const [one, other] = first === 'caller' ? [caller, service] : [service, caller]
    one.end()
    await other.untilEnd()
    other.write('there is more')
    await one.until('there is more')
    other.end()
    await one.untilClosed()
    t.match(await over, {
      protocol: 'tcp',
      reason: 'ok',
      bytesFromCaller: first === 'caller' ? 4 : 17,
      bytesToCaller: first === 'caller' ? 22 : 9,
      status: 0,
    })
    t.equal(outcomes.length, 1)
    t.equal(watch.size, 0)
  }
})

t.test('a reset passes on, and tells whose it was', async (t) => {
  for (const first of ['caller', 'service'] as const) {
    const { caller, service, over } = await spliced(t)
    caller.write('x')
    await service.until('x')
    const [one, other] = first === 'caller' ? [caller, service] : [service, caller]
    one.reset()
    await other.untilClosed()
    t.equal(other.error, 'ECONNRESET')
    t.match(await over, { reason: first === 'caller' ? 'caller-aborted' : 'instance-aborted' })
  }
})

t.test(
  '20 MiB pass each way at once, and a side that does not read holds the other up',
  async (t) => {
    const { caller, service } = await spliced(t)
    const piece = Buffer.alloc(1024 * 1024, 'x')
    service.socket.pause()
    for (let i = 0; i < 20; i++) {
      caller.write(piece)
      service.write(piece)
    }
    await caller.until((one) => one.bytes === 20 * piece.length)
    t.ok(caller.socket.writableLength > piece.length, 'most of it still waits at the caller')
    service.socket.resume()
    await service.until((one) => one.bytes === 20 * piece.length)
  },
)

t.test('pauses and resumes come in pairs', async (t) => {
  const [caller, service] = [new FakeChannel(), new FakeChannel()]
  relayOf(caller, service)
  service.full = true
  caller.says('a')
  t.ok(caller.paused)
  service.drains()
  t.notOk(caller.paused)
  caller.full = true
  service.says('b')
  t.ok(service.paused)
  caller.drains()
  t.notOk(service.paused)
})

t.test('the loss of a tunnel is told apart from that of a service', async (t) => {
  const cases = [
    { direction: 'outbound', mtls: true, reason: 'tunnel-lost' },
    { direction: 'outbound', mtls: false, reason: 'instance-aborted' },
    { direction: 'inbound', mtls: true, reason: 'instance-aborted' },
  ] as const
  for (const { direction, mtls, reason } of cases) {
    const [caller, service] = [new FakeChannel(), new FakeChannel()]
    const { over } = relayOf(caller, service, systemClock, { direction, mtls })
    service.close({ code: 'ECONNRESET', message: '' })
    t.match(await over, { reason })
    t.ok(caller.aborted)
  }
})

t.test('a side that has gone for good is not waited for without end', async (t) => {
  const clock = new FakeClock()
  const [caller, service] = [new FakeChannel(), new FakeChannel()]
  const { outcomes, watch } = relayOf(caller, service, clock)
  service.close(null)
  t.ok(caller.ended)
  caller.drains()
  t.equal(outcomes.length, 0)
  await clock.advance(7000)
  t.ok(caller.aborted)
  t.match(outcomes, [{ reason: 'ok' }])
  t.equal(watch.size, 0)
})

t.test('a slow reader gets the whole of what a side that is gone has said', async (t) => {
  for (const reads of [true, false]) {
    const clock = new FakeClock()
    const [caller, service] = [new FakeChannel(), new FakeChannel()]
    relayOf(caller, service, clock)
    caller.full = true
    caller.saysEnd()
    service.says('the last words')
    service.saysEnd()
    service.close(null)
    t.ok(caller.ended)
    await clock.advance(60_000)
    t.notOk(caller.aborted, 'it has yet to read them')
    if (reads) caller.drains()
    await clock.advance(7000)
    t.equal(caller.aborted, reads, 'once they are out it is not waited for much longer')
    await clock.advance(300_000)
    t.ok(caller.aborted, 'nor without end before')
  }
})

t.test('a channel that was gone before the start is an end at once', async (t) => {
  const [caller, service] = [new FakeChannel(), new FakeChannel()]
  caller.closed = true
  const { outcomes } = relayOf(caller, service)
  t.match(outcomes, [{ reason: 'caller-aborted' }])
  t.ok(service.aborted)
})

t.test(
  'a raw connection that policy no longer allows is cut, and recorded by the rule',
  async (t) => {
    const { caller, service, watch, policy, over } = await spliced(t)
    caller.write('hello')
    await service.until('hello')
    watch.reconsider()
    caller.write(' again')
    await service.until('hello again')
    const ref = { rule: 'deny[0]', file: '/p.json', line: 3 }
    policy.says = { reason: 'policy-denied', ref, detail: 'no' }
    watch.reconsider()
    await Promise.all([caller.untilClosed(), service.untilClosed()])
    t.match(await over, { reason: 'policy-denied', rule: ref, bytesFromCaller: 11 })
  },
)
