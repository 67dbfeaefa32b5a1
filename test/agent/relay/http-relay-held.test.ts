import t from 'tap'
import { HeldBytes } from '#agent/http2/held-bytes.ts'
import { FakeChannel } from '#test/support/fake-channel.ts'
import { RawServer } from '#test/support/raw-peer.ts'
import { RelayRig, type RigSettings } from '#test/support/relay-rig.ts'
import { makeTunnelPair } from '#test/support/tunnel-pair.ts'
import { until } from '#test/support/until.ts'

type Test = Parameters<typeof RelayRig.start>[0]

async function rigWith(t: Test, settings: Partial<RigSettings> = {}) {
  const service = await RawServer.listen()
  t.teardown(() => service.stop())
  const rig = await RelayRig.start(t, { upstreams: [{ port: service.port }], ...settings })
  return { service, rig }
}

const get = 'GET / HTTP/1.1\r\nHost: orders\r\n\r\n'
/** A request whose body has come by half. */
const half = 'PUT / HTTP/1.1\r\nHost: orders\r\nContent-Length: 8\r\n\r\nbody'
const ok = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'

/** A caller says something to a service that takes it at once. */
function begin(rig: RelayRig, said: string) {
  const [caller, service] = [new FakeChannel(), new FakeChannel()]
  for (const upstream of rig.upstreams) upstream.open = (opener) => opener.onOpen(service)
  rig.relay(caller).start()
  caller.says(said)
  return { caller, service }
}

t.test('who adds to what waits past the bound of the host is refused, nobody else', async (t) => {
  const held = new HeldBytes({ limitBytes: 100_000 })
  const { service, rig } = await rigWith(t, { held })
  const first = await rig.call(get + 'x'.repeat(60_000))
  const peer = await service.peer(0)
  await peer.until('\r\n\r\n')
  await until('it waits', () => held.bytes >= 60_000)
  const second = await rig.call(get)
  const other = await service.peer(1)
  await other.until('\r\n\r\n')
  second.write('x'.repeat(60_000))
  t.match(await second.untilEnd(), /^HTTP\/1\.1 503 [\s\S]*x-mesh-reason: overloaded/)
  t.match(await rig.recorded(1), { reason: 'overloaded', status: 503 })
  t.same(rig.upstreams[0]?.results, ['abandoned'])
  t.equal(held.bytes, 60_000)
  const third = await rig.call(`GET / HTTP/1.1\r\nHost: orders\r\nX: ${'x'.repeat(50_000)}`)
  t.match(await third.untilEnd(), /^HTTP\/1\.1 503 [\s\S]*x-mesh-reason: overloaded/, 'of a head')
  const fourth = await rig.call(get)
  const last = await service.peer(2)
  await last.until('\r\n\r\n')
  last.write(ok)
  await fourth.until('ok')
  peer.write(ok)
  await first.until('ok')
  first.reset()
  await until('nothing waits', () => held.bytes === 0)
})

t.test('a body is kept to be sent again where there is room, and only as long', async (t) => {
  for (const limitBytes of [1000, 3]) {
    const held = new HeldBytes({ limitBytes })
    const { rig } = await rigWith(t, { held, upstreams: [{ port: 1 }, { port: 1, name: 'i2' }] })
    const services: FakeChannel[] = []
    for (const upstream of rig.upstreams) {
      upstream.open = (opener) => {
        const channel = new FakeChannel()
        services.push(channel)
        opener.onOpen(channel)
      }
    }
    const caller = new FakeChannel()
    rig.relay(caller).start()
    caller.says('PUT / HTTP/1.1\r\nHost: orders\r\nContent-Length: 4\r\n\r\nbody')
    const hasRoom = limitBytes > 4
    t.equal(held.bytes, hasRoom ? 4 : 0)
    services[0]?.close({ code: 'ECONNRESET', message: 'reset' })
    t.equal(services.length, hasRoom ? 2 : 1)
    services[1]?.says(ok)
    t.match(rig.outcomes, [{ status: hasRoom ? 200 : 502 }])
    t.equal(held.bytes, 0)
    rig.stop()
  }
})

t.test('a body is kept where its request may be repeated by this agent', async (t) => {
  for (const direction of ['outbound', 'inbound'] as const) {
    for (const method of ['PUT', 'POST']) {
      const held = new HeldBytes({ limitBytes: 1000 })
      const { rig } = await rigWith(t, { held, direction })
      begin(rig, `${method} / HTTP/1.1\r\nHost: orders\r\nContent-Length: 4\r\n\r\nbody`)
      const kept = direction === 'outbound' || method === 'PUT'
      t.equal(held.bytes, kept ? 4 : 0, `${method} ${direction}`)
      rig.stop()
    }
  }
})

t.test('a body is kept no longer once the answer has begun', async (t) => {
  const held = new HeldBytes({ limitBytes: 1000 })
  const { rig } = await rigWith(t, { held })
  const { caller, service } = begin(rig, half)
  t.equal(held.bytes, 4)
  service.says('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n')
  t.equal(held.bytes, 0)
  caller.says('more')
  t.equal(held.bytes, 0)
  service.says('ok')
  t.match(rig.outcomes, [{ status: 200 }])
  caller.close(null)
  rig.stop()
})

t.test('a body that was kept is let go of with its request, however that ends', async (t) => {
  const ends = {
    'caller-aborted': (caller: FakeChannel) => caller.close(null),
    'bad-response': (_: FakeChannel, service: FakeChannel) => service.says('what?\r\n\r\n'),
    'instance-aborted': (_: FakeChannel, service: FakeChannel) => service.close(null),
  }
  for (const [reason, end] of Object.entries(ends)) {
    const held = new HeldBytes({ limitBytes: 1000 })
    const { rig } = await rigWith(t, { held })
    const { caller, service } = begin(rig, half)
    t.equal(held.bytes, 4)
    end(caller, service)
    t.match(rig.outcomes, [{ reason }])
    t.equal(held.bytes, 0)
    rig.stop()
  }
})

t.test('a peer that sends before its turn is not read on until it has come', async (t) => {
  for (const direction of ['inbound', 'outbound'] as const) {
    const held = new HeldBytes({ limitBytes: 1000 })
    const { rig } = await rigWith(t, { held, direction })
    const service = new FakeChannel()
    Object.assign(rig.upstreams[0] ?? {}, {
      open: (opener: { onOpen(channel: FakeChannel): void }) => opener.onOpen(service),
    })
    const caller = new FakeChannel()
    rig.relay(caller).start()
    caller.says(get)
    caller.says(get.slice(0, 9))
    t.equal(caller.paused, direction === 'inbound')
    caller.says(get.slice(9))
    t.equal(held.bytes, direction === 'inbound' ? 9 : get.length)
    service.says(ok)
    t.notOk(caller.paused)
    t.equal(held.bytes, 0)
    t.equal(rig.outcomes.length, 1)
    caller.close(null)
    rig.stop()
  }
})

t.test('requests that wait in a tunnel take the credit of their stream', async (t) => {
  const held = new HeldBytes({ limitBytes: 10_000_000 })
  const { service, rig } = await rigWith(t, { held, direction: 'inbound' })
  const pair = await makeTunnelPair(t, {
    onStream: ({ stream }) => {
      stream.accept()
      rig.relay(stream).start()
    },
  })
  const opened = await pair.open()
  if (opened.kind === 'failed') throw new Error(opened.detail)
  const { channel, sink } = opened
  channel.writeText(get)
  const peer = await service.peer(0)
  await peer.until('\r\n\r\n')
  let written = 0
  while (channel.waitingBytes === 0 && written < 10_000_000) {
    channel.write(Buffer.alloc(1000, 'x'))
    written += 1000
    await new Promise((resolve) => setImmediate(resolve))
  }
  t.ok(written < 10_000_000, 'the caller is made to wait')
  t.ok(held.bytes <= 16_384, 'what came first is counted, the rest waits in the stream')
  peer.write(ok)
  await sink.until(({ text }) => text.includes('200 OK'))
  channel.abort()
  await until('nothing waits', () => held.bytes === 0)
})
