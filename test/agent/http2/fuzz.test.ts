/**
 * Mutated frames and field blocks: whatever comes, the connection answers with a named error or goes
 * on, keeps its memory and ends. HOSTMESH_FUZZ_CASES sets how many, HOSTMESH_FUZZ_SEED which.
 */

import { Duplex } from 'node:stream'
import t from 'tap'
import { type ConnectionEnd, Http2Connection } from '#agent/http2/connection.ts'
import { headerField } from '#agent/http2/header-field.ts'
import { HeldBytes } from '#agent/http2/held-bytes.ts'
import { HpackDecoder } from '#agent/http2/hpack-decoder.ts'
import { HpackEncoder } from '#agent/http2/hpack-encoder.ts'
import type { Http2Stream } from '#agent/http2/stream.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { connectBlock, frame, getBlock, preface, types, uint32 } from '#test/support/raw-http2.ts'

const cases = Number(process.env['HOSTMESH_FUZZ_CASES'] ?? 20_000)
const seed = Number(process.env['HOSTMESH_FUZZ_SEED'] ?? 1)

/** A small generator of its own (mulberry32), so that a seed means the same for ever. */
class Dice {
  #state: number
  constructor(start: number) {
    this.#state = start >>> 0
  }
  /** A whole number below `below`. */
  roll(below: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let n = this.#state
    n = Math.imul(n ^ (n >>> 15), n | 1)
    n ^= n + Math.imul(n ^ (n >>> 7), n | 61)
    return ((n ^ (n >>> 14)) >>> 0) % below
  }
  pick<T>(list: readonly T[]): T {
    return list[this.roll(list.length)] as T
  }
}

/** A socket that swallows what is written, and is fed by hand. */
class FedSocket extends Duplex {
  override _read(): void {}
  override _write(_chunk: unknown, _encoding: string, done: () => void): void {
    done()
  }
  override _writev(_chunks: unknown, done: () => void): void {
    done()
  }
}

const okBlock = Buffer.from([0x88])

function likelyFrame(dice: Dice, role: 'client' | 'server'): Buffer {
  const id = dice.pick([1, 1, 1, 3, 3, 5, 7, 2, 0, 0x7fffffff])
  switch (dice.roll(12)) {
    case 0:
    case 1:
    case 2: {
      const block = role === 'client' ? okBlock : dice.pick([getBlock, connectBlock])
      return frame(types.headers, dice.pick([4, 4, 5, 0, 0xc, 0x24, 0x25]), id, block)
    }
    case 3:
    case 4:
      return frame(types.data, dice.pick([0, 0, 1, 8]), id, Buffer.alloc(dice.roll(300)))
    case 5:
      return frame(types.windowUpdate, 0, dice.pick([0, id]), uint32(dice.roll(0x7fffffff)))
    case 6:
      return frame(types.rstStream, 0, id, uint32(dice.roll(16)))
    case 7: {
      const payload = Buffer.alloc(6)
      payload.writeUInt16BE(dice.roll(9), 0)
      payload.writeUInt32BE(dice.pick([0, 1, 100, 16_384, 65_536, 0x7fffffff, 0xffffffff]), 2)
      return frame(
        types.settings,
        dice.pick([0, 0, 0, 1]),
        0,
        dice.pick([payload, Buffer.alloc(0)]),
      )
    }
    case 8:
      return frame(types.ping, dice.roll(2), 0, Buffer.alloc(8))
    case 9:
      return frame(types.goaway, 0, 0, Buffer.alloc(8 + dice.roll(20)))
    case 10:
      return frame(types.continuation, dice.pick([0, 4]), id, Buffer.alloc(dice.roll(5), 0x82))
    default:
      return frame(dice.roll(256), dice.roll(256), dice.roll(9), Buffer.alloc(dice.roll(40)))
  }
}

function mutate(dice: Dice, bytes: Buffer, count: number): void {
  for (let i = 0; i < count && bytes.length > 0; i++) {
    const at = dice.roll(bytes.length)
    bytes[at] = dice.pick([(bytes[at] as number) ^ (1 << dice.roll(8)), dice.roll(256), 0, 255])
  }
}

interface Verdict {
  readonly end: ConnectionEnd | null
  readonly problem: string
}

function fuzzOne(dice: Dice, held: HeldBytes): Verdict {
  const role = dice.pick(['client', 'server'] as const)
  const socket = new FedSocket()
  let end: ConnectionEnd | null = null
  let goodbyes = 0
  let streams = 0
  const attach = (stream: Http2Stream): void => {
    streams++
    const mood = dice.roll(4)
    stream.sink = {
      onData: (chunk) => {
        if (mood === 1) stream.pause()
        if (mood === 2) stream.write(chunk)
      },
      onEnd: () => stream.end(),
      onDrain() {},
      onClose: () => void goodbyes++,
    }
    if (mood === 3) stream.abort()
    else if (role === 'server') stream.sendHeaders([headerField(':status', '200')], mood === 0)
  }
  const owner = {
    onStream: attach,
    onSettings() {},
    onGoaway() {},
    onStreamEnd() {},
    onClose: (how: ConnectionEnd) => {
      end = how
    },
  }
  const connection = new Http2Connection({ socket, clock: new FakeClock(), owner, held }, { role })
  const heads = { onResponse() {}, onTrailers() {} }
  if (role === 'client') {
    for (let i = 0; i < 3; i++) {
      const request = [headerField(':method', 'CONNECT'), headerField(':authority', 'a:1')]
      const sink = { onData() {}, onEnd() {}, onDrain() {}, onClose: () => void goodbyes++ }
      if (connection.open(request, { sink, heads }) !== null) streams++
    }
  }
  const frames = [frame(types.settings, 0, 0)]
  for (let i = dice.roll(12); i >= 0; i--) frames.push(likelyFrame(dice, role))
  const body = Buffer.concat(frames)
  mutate(dice, body, dice.pick([0, 0, 1, 2, 8]))
  const bytes = role === 'server' ? Buffer.concat([preface, body]) : body
  for (let at = 0; at < bytes.length;) {
    const size = dice.pick([1, 5, 9, 100, bytes.length])
    socket.emit('data', bytes.subarray(at, at + size))
    at += size
  }
  connection.close('the case is over')
  socket.destroy()
  const left = connection.streams.size
  if (end === null) return { end, problem: 'no end' }
  if (left > 0) return { end, problem: `${left} streams left` }
  return { end, problem: goodbyes > streams ? 'a second goodbye' : '' }
}

t.test('Http2Connection survives mutated frames with a named end', async (t) => {
  const dice = new Dice(seed)
  const held = new HeldBytes({ limitBytes: 1 << 28 })
  const ends = new Map<string, number>()
  for (let i = 0; i < cases / 2; i++) {
    const { end, problem } = fuzzOne(dice, held)
    if (problem !== '') t.fail(`case ${i} of seed ${seed}: ${problem}`)
    const code = end?.code ?? 'none'
    ends.set(code, (ends.get(code) ?? 0) + 1)
    if (i % 500 === 0) await new Promise(setImmediate)
  }
  await new Promise(setImmediate)
  t.equal(held.bytes, 0, 'nothing is still held')
  const named = /^(?:closed|H2_[A-Z_0-9]+)$/
  t.same(
    [...ends.keys()].filter((code) => !named.test(code)),
    [],
  )
  t.ok(ends.size >= 6, `many ways to end: ${JSON.stringify([...ends])}`)
})

t.test('HpackDecoder survives mutated blocks, with bounded tables and lists', async (t) => {
  const dice = new Dice(seed + 1)
  const kinds = new Map<string, number>()
  let encoder = new HpackEncoder()
  let decoder = new HpackDecoder()
  for (let i = 0; i < cases / 2; i++) {
    const fields = Array.from({ length: dice.roll(6) }, () =>
      headerField(dice.pick([':path', 'cookie', 'x-a', 'x-b']), 'v'.repeat(dice.roll(60))),
    )
    const block = Buffer.from(encoder.encode(fields))
    mutate(dice, block, dice.roll(4))
    const { kind } = decoder.decode(block)
    kinds.set(kind, (kinds.get(kind) ?? 0) + 1)
    if (decoder.tableBytes > 4096) t.fail(`case ${i} of seed ${seed}: a table too large`)
    if (kind !== 'fields' || dice.roll(50) === 0) {
      encoder = new HpackEncoder()
      decoder = new HpackDecoder()
    }
  }
  t.ok((kinds.get('fields') ?? 0) > 0 && (kinds.get('broken') ?? 0) > 0, JSON.stringify([...kinds]))
})
