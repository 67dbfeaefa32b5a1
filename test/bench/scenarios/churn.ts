/**
 * Owns the scenario of churn: 5,000 CONNECT streams a second opened and closed through one tunnel
 * beside a long download in the same tunnel, for half a minute. Nothing may be reset that was not
 * asked for, and memory must come back to where it began. Both ends live in this process.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Bench } from '#test/bench/bench.ts'
import type { Result } from '#test/bench/result.ts'
import type { Channel, ChannelError, ChannelSink, Opener } from '#agent/platform.ts'
import type { IncomingCall } from '#agent/tunnel/tunnel-listener.ts'
import type { StreamTarget } from '#agent/tunnel/tunnels.ts'
import { echo, makeTunnelPair, type TunnelPair } from '#test/support/tunnel-pair.ts'
import { until } from '#test/support/until.ts'

const perMs = 5
const warmSeconds = 3
const seconds = 30
/** What a heap may keep without a leak: caches and tables that grew to their size. */
const mostKeptMiB = 8
const longAuthority = 'long.orders.mesh:1'
const piece = Buffer.alloc(16_384, 'x')

/** What became of the streams. */
interface Count {
  opened: number
  finished: number
  failed: number
}

/** One short stream: says a word, hears it, and ends or aborts. */
class Caller implements Opener, ChannelSink {
  readonly #count: Count
  readonly #aborts: boolean
  #channel: Channel | null = null
  #done = false

  constructor(count: Count, aborts: boolean) {
    this.#count = count
    this.#aborts = aborts
  }

  onOpen(channel: Channel): void {
    this.#channel = channel
    channel.sink = this
    channel.writeText('x')
  }

  onOpenFailed(): void {
    this.#count.failed++
  }

  onData(): void {
    this.#done = true
    if (this.#aborts) this.#channel?.abort()
    else this.#channel?.end()
  }

  onEnd(): void {}
  onDrain(): void {}

  onClose(error: ChannelError | null): void {
    if (error === null && this.#done) this.#count.finished++
    else this.#count.failed++
  }
}

/** The download: how much came, and whether it was ever cut. */
class Download implements Opener, ChannelSink {
  bytes = 0
  cut = false
  channel: Channel | null = null

  onOpen(channel: Channel): void {
    this.channel = channel
    channel.sink = this
  }

  onOpenFailed(): void {
    this.cut = true
  }

  onData(chunk: Buffer): void {
    this.bytes += chunk.length
  }

  onEnd(): void {
    this.cut = true
  }

  onDrain(): void {}

  onClose(): void {
    this.cut = true
  }
}

/** Echoes; to the long authority it sends without end, in turns with everything else. */
function serve(call: IncomingCall): void {
  if (call.authority !== longAuthority) {
    echo(call)
    return
  }
  const { stream } = call
  stream.accept()
  const pump = (): void => {
    if (!stream.closed && stream.write(piece)) setTimeout(pump, 1)
  }
  stream.sink = { onData() {}, onEnd() {}, onDrain: pump, onClose() {} }
  pump()
}

/** Streams on a fixed schedule, whatever becomes of those before. */
async function churn(pair: TunnelPair, count: Count, forSeconds: number): Promise<number> {
  const target: StreamTarget = pair.target
  const before = count.opened
  const begin = performance.now()
  const total = forSeconds * 1000 * perMs
  for (let sent = 0; sent < total;) {
    await sleep(1)
    const due = Math.min(total, Math.floor((performance.now() - begin) * perMs))
    for (; sent < due; sent++) {
      count.opened++
      pair.tunnels.openStream(target, new Caller(count, sent % 2 === 0))
    }
  }
  await until('every stream is over', () => count.finished + count.failed === count.opened, {
    withinMs: 60_000,
  })
  return ((count.opened - before) * 1000) / (performance.now() - begin)
}

/** Bytes in use once everything that is garbage has been collected. */
function inUse(collect: () => void): number {
  for (let i = 0; i < 4; i++) collect()
  const { heapUsed, external, arrayBuffers } = process.memoryUsage()
  return heapUsed + external + arrayBuffers
}

/** See the header. */
export async function churnScenario(bench: Bench): Promise<Result[]> {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const ends: (() => unknown)[] = []
  const pair = await makeTunnelPair({ teardown: (end) => ends.push(end) }, { onStream: serve })
  const forget = setInterval(() => (pair.calls.length = 0), 100)
  try {
    bench.settings.say(`churn: ${perMs * 1000} streams a second for ${seconds} s`)
    const download = new Download()
    pair.tunnels.openStream({ ...pair.target, authority: longAuthority }, download)
    const count: Count = { opened: 0, finished: 0, failed: 0 }
    await churn(pair, count, warmSeconds)
    const bytesBefore = download.bytes
    const before = inUse(collect)
    const perSecond = await churn(pair, count, seconds)
    const kept = Math.max(0, inUse(collect) - before) / 1_048_576
    const downloaded = (download.bytes - bytesBefore) / 1_048_576
    const cut = count.failed + (download.cut ? 1 : 0)
    return [
      row(`streams cut or refused, of ${count.opened} and a download`, cut, 0, cut === 0),
      row('tunnels dialled', pair.handshakes.dialled.length, 1, true),
      row('streams a second, kept up', perSecond, null, perSecond > perMs * 1000 * 0.95),
      row('MiB downloaded beside them', downloaded, null, downloaded > 0),
      row('streams still open', pair.tunnels.openStreams, 1, true),
      row('MiB in use more than before', kept, mostKeptMiB, true),
    ]
  } finally {
    clearInterval(forget)
    for (const end of ends.toReversed()) await end()
  }
}

function row(metric: string, ours: number, goal: number | null, holds: boolean): Result {
  return {
    name: 'churn',
    metric,
    ours,
    peer: Number.NaN,
    peerName: '',
    ratio: Number.NaN,
    goal,
    ok: holds && (goal === null || ours <= goal),
  }
}
