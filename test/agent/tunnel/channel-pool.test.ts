import t from 'tap'
import type { Channel, ChannelSink } from '#agent/platform.ts'
import { ChannelPool, idleMsFor } from '#agent/tunnel/channel-pool.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { RecordedSink } from '#test/support/recorded-channel.ts'
import { makeTunnelPair } from '#test/support/tunnel-pair.ts'
import { until } from '#test/support/until.ts'

/** A channel that only notes what is done to it. */
class NotedChannel implements Channel {
  sink: ChannelSink = new RecordedSink()
  closed = false
  retiring = false
  readonly waitingBytes = 0
  ended = false
  aborted = false
  write(): boolean {
    return true
  }
  writeText(): boolean {
    return true
  }
  end(): void {
    this.ended = true
  }
  abort(): void {
    this.closed = this.aborted = true
  }
  pause(): void {}
  resume(): void {}
}

function pooled(
  count: number,
  settings = {},
): { clock: FakeClock; pool: ChannelPool; channels: NotedChannel[] } {
  const clock = new FakeClock()
  const pool = new ChannelPool({ clock }, { idleMs: 1000, ...settings })
  const channels = Array.from({ length: count }, () => new NotedChannel())
  for (const channel of channels) pool.release(channel)
  return { clock, pool, channels }
}

t.test('ChannelPool hands out the channel used last', async (t) => {
  const { pool, channels } = pooled(3)
  t.equal(pool.take(), channels[2])
  t.equal(pool.take(), channels[1])
  t.equal(pool.idle, 1)
  pool.release(channels[2] as Channel)
  t.equal(pool.take(), channels[2])
  t.equal(pool.take(), channels[0])
  t.equal(pool.take(), null)
})

t.test('ChannelPool drops a channel that speaks, ends or closes while idle', async (t) => {
  const { pool, channels } = pooled(4)
  const [speaks, ends, closes, good] = channels
  speaks?.sink.onData(Buffer.from('HTTP/1.1 200 OK\r\n'))
  t.ok(speaks?.aborted, 'late bytes poison it')
  ends?.sink.onEnd()
  t.ok(ends?.ended)
  closes?.sink.onClose(null)
  t.equal(pool.idle, 1)
  t.equal(pool.take(), good)
  t.equal(pool.take(), null)
})

t.test('ChannelPool hands out nothing closed or retiring, and takes neither back', async (t) => {
  const { pool, channels } = pooled(3)
  const [good, closed, retiring] = channels
  if (good === undefined || closed === undefined || retiring === undefined) return
  closed.closed = true
  retiring.retiring = true
  t.equal(pool.take(), good)
  t.ok(retiring.ended)
  pool.release(closed)
  pool.release(retiring)
  t.equal(pool.idle, 0)
})

t.test('ChannelPool closes what nobody wanted for long, and keeps what is used', async (t) => {
  const { clock, pool, channels } = pooled(2)
  const [unused, used] = channels
  for (let i = 0; i < 6; i++) {
    await clock.advance(300)
    t.equal(pool.take(), used)
    pool.release(used as Channel)
  }
  t.ok(unused?.ended)
  t.equal(pool.idle, 1)
  t.ok(clock.pending <= 1, 'one timer for all')
  await clock.advance(1000)
  t.ok(unused?.aborted, 'it did not say goodbye')
  await clock.advance(3000)
  t.equal(pool.idle, 0)
  t.equal(clock.pending, 0)
})

t.test('ChannelPool keeps no more than it may, and nothing once it is closed', async (t) => {
  const { clock, pool, channels } = pooled(3, { maxIdle: 2 })
  t.equal(pool.idle, 2)
  t.ok(channels[2]?.ended)
  pool.close()
  t.equal(pool.idle, 0)
  t.ok(channels.every((channel) => channel.ended))
  const late = new NotedChannel()
  pool.release(late)
  t.ok(late.ended)
  t.equal(pool.take(), null)
  await clock.advance(5000)
  t.equal(clock.pending, 0)
})

t.test('ChannelPool reuses tunnel streams, but none that spoke out of turn', async (t) => {
  const pair = await makeTunnelPair(t)
  const pool = new ChannelPool({ clock: new FakeClock() })
  const result = await pair.open()
  if (result.kind !== 'open') throw new Error(result.detail)
  const { channel, sink } = result
  channel.writeText('one')
  await sink.until((heard) => heard.text === 'one')
  pool.release(channel)
  t.equal(pool.take(), channel)
  const next = new RecordedSink()
  channel.sink = next
  channel.writeText('two')
  await next.until((heard) => heard.text === 'two')
  t.equal(sink.text, 'one', 'the old owner hears no more')
  pool.release(channel)
  pair.calls[0]?.stream.writeText('a response nobody asked for')
  await until('the pool has dropped it', () => pool.idle === 0)
  t.equal(pool.take(), null)
  t.ok(channel.closed)
})

t.test(
  'ChannelPool does not keep a stream of a tunnel whose certificate was replaced',
  async (t) => {
    const pair = await makeTunnelPair(t)
    const pool = new ChannelPool({ clock: new FakeClock() })
    const result = await pair.open()
    if (result.kind !== 'open') throw new Error(result.detail)
    pool.release(result.channel)
    pair.calling.setCredentials([await pair.ca.issue({ id: pair.caller })])
    t.equal(pool.take(), null)
    await until('the old tunnel is gone', () => pair.tunnels.openTunnels === 0)
  },
)

t.test(
  'an idle channel goes before a service that says how long it keeps one would end it',
  async (t) => {
    t.same([undefined, 5000, 60_000, 0].map(idleMsFor), [30_000, 4000, 30_000, 200])
  },
)
