import t from 'tap'
import { AbuseBudgets, defaultAbuseSettings } from '#agent/http2/abuse-budgets.ts'
import { HeldBytes } from '#agent/http2/held-bytes.ts'
import { headerField } from '#agent/http2/header-field.ts'
import { errorCodes } from '#agent/http2/fault.ts'
import {
  connectBlock,
  frame,
  getBlock,
  preface,
  RawPeer,
  types,
  uint32,
} from '#test/support/raw-http2.ts'
import { RecordedSink } from '#test/support/recorded-channel.ts'

const endHeaders = 0x4
const endStream = 0x1
const both = endHeaders | endStream
const codes = errorCodes

const server = (): RawPeer => new RawPeer({ role: 'server' }).greet()
const open = (id: number): Buffer => frame(types.headers, endHeaders, id, connectBlock)
const opened = (id: number): Buffer => frame(types.headers, both, id, getBlock)
const data = (id: number, text: string, flags = 0): Buffer =>
  frame(types.data, flags, id, Buffer.from(text))
const setting = (id: number, value: number): Buffer => {
  const payload = Buffer.alloc(6)
  payload.writeUInt16BE(id, 0)
  payload.writeUInt32BE(value, 2)
  return payload
}

t.test('Http2Connection introduces itself with SETTINGS and a large window', async (t) => {
  const peer = server()
  const settings = await peer.frameOf(types.settings)
  t.equal(settings.payload.length % 6, 0)
  const { payload } = await peer.frameOf(types.windowUpdate, 0)
  t.equal(payload.readUInt32BE(0), 268_435_456 - 65_535)
  const ack = await peer.frame((one) => one.type === types.settings && one.flags === 1)
  t.equal(ack.payload.length, 0)
})

t.test(
  'Http2Connection ends a connection that breaks its rules, with the right code',
  async (t) => {
    const cases: readonly (readonly [string, number, readonly Buffer[]])[] = [
      ['DATA on an idle stream', codes.protocolError, [data(1, 'x')]],
      [
        'RST_STREAM on an idle stream',
        codes.protocolError,
        [frame(types.rstStream, 0, 1, uint32(8))],
      ],
      [
        'WINDOW_UPDATE on an idle stream',
        codes.protocolError,
        [frame(types.windowUpdate, 0, 1, uint32(1))],
      ],
      ['HEADERS on an even stream', codes.protocolError, [open(2)]],
      ['HEADERS on a stream passed over', codes.protocolError, [open(5), open(3)]],
      ['CONTINUATION alone', codes.protocolError, [frame(types.continuation, 4, 1, connectBlock)]],
      [
        'another frame within a field block',
        codes.protocolError,
        [frame(types.headers, 0, 1, connectBlock), frame(types.ping, 0, 0, Buffer.alloc(8))],
      ],
      [
        'an unknown frame within a field block',
        codes.protocolError,
        [frame(types.headers, 0, 1, connectBlock), frame(0x20, 0, 0)],
      ],
      [
        'DATA within a field block',
        codes.protocolError,
        [open(1), frame(types.headers, 0, 3, connectBlock), data(1, 'x')],
      ],
      [
        'CONTINUATION of another stream',
        codes.protocolError,
        [frame(types.headers, 0, 1, connectBlock), frame(types.continuation, 4, 3)],
      ],
      ['PUSH_PROMISE', codes.protocolError, [frame(types.pushPromise, 4, 1, uint32(2))]],
      ['padding beyond HEADERS', codes.protocolError, [frame(types.headers, 0xc, 1, [9, 0x82])]],
      ['ENABLE_PUSH of 2', codes.protocolError, [frame(types.settings, 0, 0, setting(2, 2))]],
      [
        'INITIAL_WINDOW_SIZE of 2^31',
        codes.flowControlError,
        [frame(types.settings, 0, 0, setting(4, 2 ** 31))],
      ],
      [
        'MAX_FRAME_SIZE of 100',
        codes.protocolError,
        [frame(types.settings, 0, 0, setting(5, 100))],
      ],
      ['WINDOW_UPDATE of 0', codes.protocolError, [frame(types.windowUpdate, 0, 0, uint32(0))]],
      [
        'a window beyond 2^31-1',
        codes.flowControlError,
        [frame(types.windowUpdate, 0, 0, uint32(0x7fffffff))],
      ],
      [
        'a stream window beyond 2^31-1 by SETTINGS',
        codes.flowControlError,
        [
          open(1),
          frame(types.windowUpdate, 0, 1, uint32(0x7fffffff - 65_535)),
          frame(types.settings, 0, 0, setting(4, 65_536)),
        ],
      ],
      ['broken HPACK', codes.compressionError, [frame(types.headers, 4, 1, [0x80])]],
      [
        'a frame too long',
        codes.frameSizeError,
        [frame(types.headers, 4, 1, Buffer.alloc(65_537))],
      ],
    ]
    for (const [name, code, frames] of cases) {
      const peer = server().send(...frames)
      t.equal(await peer.goawayCode(), code, name)
      t.equal(peer.end?.by, 'here', name)
    }
  },
)

t.test('Http2Connection takes nothing but SETTINGS first, after the right preface', async (t) => {
  for (const first of [
    Buffer.from('GET / HTTP/1.1\r\nhost: x\r\n\r\n'),
    Buffer.concat([preface, frame(types.ping, 0, 0, Buffer.alloc(8))]),
    Buffer.concat([preface, frame(types.settings, 1, 0)]),
    Buffer.concat([preface, frame(0x30, 0, 0)]),
  ]) {
    const peer = new RawPeer({ role: 'server' }).send(first)
    t.equal(await peer.goawayCode(), codes.protocolError)
  }
})

t.test('Http2Connection resets a stream that breaks its rules, and no other', async (t) => {
  const cases: readonly (readonly [string, number, readonly Buffer[]])[] = [
    ['DATA after its end', codes.streamClosed, [opened(3), data(3, 'x')]],
    ['HEADERS after its end', codes.streamClosed, [opened(3), opened(3)]],
    [
      'HEADERS amid content',
      codes.protocolError,
      [frame(types.headers, endHeaders, 3, getBlock), open(3)],
    ],
    [
      'HEADERS at the end of a tunnel',
      codes.protocolError,
      [open(3), data(3, 'x'), frame(types.headers, both, 3)],
    ],
    [
      'WINDOW_UPDATE of 0',
      codes.protocolError,
      [open(3), frame(types.windowUpdate, 0, 3, uint32(0))],
    ],
    [
      'a window beyond 2^31-1',
      codes.flowControlError,
      [open(3), frame(types.windowUpdate, 0, 3, uint32(0x7fffffff))],
    ],
    ['PRIORITY of wrong size', codes.frameSizeError, [open(3), frame(types.priority, 0, 3, 'aa')]],
    [
      'a priority that depends on itself',
      codes.protocolError,
      [open(3), frame(types.priority, 0, 3, [0, 0, 0, 3, 16])],
    ],
    [
      'HEADERS that depend on themselves',
      codes.protocolError,
      [frame(types.headers, 0x24, 3, Buffer.concat([Buffer.from([0, 0, 0, 3, 16]), connectBlock]))],
    ],
    [
      'DATA on a stream the peer has reset',
      codes.streamClosed,
      [open(3), frame(types.rstStream, 0, 3, uint32(8)), data(3, 'x')],
    ],
    ['a malformed request', codes.protocolError, [frame(types.headers, both, 3, [0x82])]],
    [
      'content beyond its length',
      codes.protocolError,
      [
        frame(
          types.headers,
          endHeaders,
          3,
          Buffer.concat([getBlock, Buffer.from('0f0d0132', 'hex')]),
        ),
        data(3, 'abc'),
      ],
    ],
    [
      'content short of its length',
      codes.protocolError,
      [
        frame(
          types.headers,
          endHeaders,
          3,
          Buffer.concat([getBlock, Buffer.from('0f0d0132', 'hex')]),
        ),
        data(3, 'a', endStream),
      ],
    ],
  ]
  for (const [name, code, frames] of cases) {
    const peer = server().send(open(1), ...frames)
    t.equal(await peer.resetCode(3), code, name)
    await peer.settled()
    t.equal(peer.streams[0]?.closed, false, `${name}: its neighbour lives on`)
  }
})

t.test('Http2Connection ends the connection over DATA on a finished stream', async (t) => {
  const peer = new RawPeer(
    { role: 'server' },
    { onStream: (stream) => void (stream.sink = echoEnd(stream)) },
  )
  peer.greet().send(opened(1))
  await peer.frame((one) => one.type === types.data && (one.flags & endStream) !== 0)
  peer.send(data(1, 'x'))
  t.equal(await peer.goawayCode(), codes.streamClosed)
})

function echoEnd(stream: { end(): void; sendHeaders: (f: [], e: boolean) => void }): RecordedSink {
  const sink = new RecordedSink()
  sink.onEnd = () => {
    stream.sendHeaders([], false)
    stream.end()
  }
  return sink
}

t.test('Http2Connection ignores what arrives late on a stream it has reset itself', async (t) => {
  const peer = server().send(open(1))
  await peer.settled()
  peer.streams[0]?.abort()
  t.equal(await peer.resetCode(1), codes.cancel)
  peer.send(data(1, 'late'), frame(types.headers, both, 1, connectBlock))
  await peer.settled()
  t.equal(peer.end, null)
})

t.test(
  'Http2Connection ignores unknown frames, flags, settings and the reserved bit',
  async (t) => {
    const peer = server().send(
      frame(0x77, 0xff, 0, 'aabbcc'),
      frame(types.settings, 0, 0, setting(0x7777, 1)),
      frame(types.ping, 0xfe, 0x80000000, Buffer.alloc(8)),
      frame(types.headers, endHeaders | 0x90, 1, connectBlock),
    )
    await peer.settled()
    t.equal(peer.end, null)
    t.equal(peer.streams.length, 1)
  },
)

t.test('Http2Connection joins a field block from CONTINUATION frames', async (t) => {
  const peer = server().send(
    frame(types.headers, 0, 1, connectBlock.subarray(0, 3)),
    frame(types.continuation, 0, 1, connectBlock.subarray(3, 4)),
    frame(types.continuation, endHeaders, 1, connectBlock.subarray(4)),
  )
  await peer.settled()
  t.equal(peer.streams[0]?.request?.authority, 'h:1')
})

t.test('Http2Connection ends an abusive connection with ENHANCE_YOUR_CALM', async (t) => {
  const many = (count: number, make: (i: number) => Buffer): Buffer[] =>
    Array.from({ length: count }, (_, i) => make(i))
  const cases: readonly (readonly [string, readonly Buffer[]])[] = [
    [
      'rapid reset',
      many(1200, (i) =>
        Buffer.concat([open(2 * i + 1), frame(types.rstStream, 0, 2 * i + 1, uint32(8))]),
      ),
    ],
    [
      'resets it provokes from us',
      many(1200, (i) => frame(types.headers, both, 2 * i + 1, [0x82])),
    ],
    ['SETTINGS', many(40, () => frame(types.settings, 0, 0))],
    ['PING', many(120, () => frame(types.ping, 0, 0, Buffer.alloc(8)))],
    ['empty DATA', [open(1), ...many(11_000, () => frame(types.data, 0, 1))]],
    ['PRIORITY', many(11_000, () => frame(types.priority, 0, 1, [0, 0, 0, 0, 1]))],
    ['unknown frames', many(11_000, () => frame(0x50, 0, 0))],
    [
      'tiny window updates',
      [open(1), ...many(11_000, () => frame(types.windowUpdate, 0, 1, uint32(1)))],
    ],
    [
      'CONTINUATION without end',
      [
        frame(types.headers, 0, 1, connectBlock),
        ...many(40, () => frame(types.continuation, 0, 1)),
      ],
    ],
    ['a field block too large', [frame(types.headers, 4, 1, Buffer.alloc(20_000))]],
    [
      'a small block of large fields',
      [
        frame(
          types.headers,
          endHeaders,
          1,
          Buffer.concat([
            Buffer.from('4001617f810f', 'hex'),
            Buffer.alloc(2048, 0x62),
            Buffer.alloc(16, 0xbe),
          ]),
        ),
      ],
    ],
  ]
  for (const [name, frames] of cases) {
    const peer = server().send(...frames)
    t.equal(await peer.goawayCode(), codes.enhanceYourCalm, name)
  }
})

t.test('Http2Connection ends a peer that asks for answers and never reads them', async (t) => {
  const endless = { burst: Infinity, perSecond: 0 }
  const budgets = new AbuseBudgets({ ...defaultAbuseSettings, pings: endless }, 0)
  const peer = new RawPeer({ role: 'server' }, { budgets }).greet()
  await peer.settled()
  peer.socket.pause()
  const pings = Buffer.concat(
    Array.from({ length: 10_000 }, () => frame(types.ping, 0, 0, Buffer.alloc(8))),
  )
  for (let round = 0; round < 100 && peer.end === null; round++) {
    peer.send(pings)
    await new Promise(setImmediate)
  }
  t.match(peer.end, { code: 'H2_ENHANCE_YOUR_CALM', message: /not read/ })
  t.ok(peer.connection.writer.pendingBytes < 16 * 1024 * 1024)
})

t.test('Http2Connection refuses more streams than it announced, as safe to repeat', async (t) => {
  const peer = new RawPeer({ role: 'server', maxConcurrentStreams: 2 }).greet()
  peer.send(open(1), open(3), open(5))
  t.equal(await peer.resetCode(5), codes.refusedStream)
  peer.streams[0]?.abort()
  await peer.resetCode(1)
  peer.send(open(7))
  await peer.settled()
  t.equal(peer.streams.length, 3, 'there is room again')
})

t.test(
  'Http2Connection counts a finished stream whose bytes are not read as lingering',
  async (t) => {
    const peer = new RawPeer(
      { role: 'server', maxConcurrentStreams: 2 },
      {
        onStream: (stream) => {
          stream.pause()
          stream.sendHeaders([headerField(':status', '200')], true)
        },
      },
    ).greet()
    for (const id of [1, 3, 5, 7]) peer.send(open(id), data(id, 'x', endStream))
    peer.send(open(9))
    t.equal(await peer.resetCode(9), codes.refusedStream)
  },
)

t.test('Http2Stream holds back what a paused consumer has not taken, and its credit', async (t) => {
  const peer = server().send(open(1))
  await peer.settled()
  const [stream, sink] = [peer.streams[0], peer.sinks[0]]
  if (stream === undefined || sink === undefined) return
  stream.pause()
  const piece = Buffer.alloc(16_384)
  for (let i = 0; i < 16; i++) peer.send(frame(types.data, 0, 1, piece))
  await peer.settled()
  t.equal(sink.bytes, 0)
  t.notOk(peer.frames.some((one) => one.type === types.windowUpdate && one.streamId === 1))
  peer.send(data(1, 'x'))
  t.equal(await peer.resetCode(1), codes.flowControlError, 'the window was used up')
})

t.test(
  'Http2Stream withholds credit for the very bytes that made its consumer pause',
  async (t) => {
    const peer = new RawPeer(
      { role: 'server' },
      {
        onStream: (stream) => {
          let bytes = 0
          const sink = new RecordedSink()
          sink.onData = (chunk) => {
            bytes += chunk.length
            if (bytes === 131_072) stream.pause()
          }
          stream.sink = sink
        },
      },
    ).greet()
    const piece = frame(types.data, 0, 1, Buffer.alloc(65_536))
    const updated = (): boolean =>
      peer.frames.some((one) => one.type === types.windowUpdate && one.streamId === 1)
    peer.send(open(1), piece, piece)
    await peer.settled()
    t.notOk(updated())
    peer.streams[0]?.resume()
    await peer.frameOf(types.windowUpdate, 1)
  },
)

t.test('Http2Stream that is over on the wire is aborted without a frame', async (t) => {
  const peer = server().send(open(1))
  await peer.settled()
  const [stream, sink] = [peer.streams[0], peer.sinks[0]]
  if (stream === undefined || sink === undefined) return
  stream.pause()
  stream.end()
  peer.send(data(1, 'unread', endStream))
  await peer.settled()
  t.equal(peer.connection.streams.lingering, 1)
  peer.frames.length = 0
  stream.abort()
  await sink.until((heard) => heard.closed === null)
  await peer.settled()
  t.notOk(peer.frames.some((one) => one.type === types.rstStream))
  t.equal(peer.connection.streams.lingering, 0)
})

t.test('Http2Connection ends a peer that sends beyond the window of the connection', async (t) => {
  const peer = new RawPeer({ role: 'server', connectionWindowBytes: 100_000 }).greet()
  peer.send(open(1), open(3))
  await peer.settled()
  for (const stream of peer.streams) stream.pause()
  const piece = Buffer.alloc(60_000)
  peer.send(frame(types.data, 0, 1, piece), frame(types.data, 0, 3, piece))
  t.equal(await peer.goawayCode(), codes.flowControlError)
})

t.test('Http2Connection keeps to the table the peer has room for', async (t) => {
  const peer = new RawPeer({ role: 'server' }).greet(setting(1, 0)).send(open(1))
  await peer.settled()
  peer.streams[0]?.sendHeaders([headerField(':status', '200'), headerField('x-a', 'b')], false)
  const { payload } = await peer.frameOf(types.headers, 1)
  t.equal(payload.toString('hex').slice(0, 6), '208800', 'a table of 0, and nothing indexed')
})

t.test('Http2Stream gives what was held, then the end, once it is resumed', async (t) => {
  const peer = server().send(open(1))
  await peer.settled()
  const [stream, sink] = [peer.streams[0], peer.sinks[0]]
  if (stream === undefined || sink === undefined) return
  stream.pause()
  for (let i = 0; i < 15; i++) peer.send(frame(types.data, 0, 1, Buffer.alloc(16_384)))
  peer.send(data(1, 'end', endStream))
  await peer.settled()
  t.notOk(sink.ended)
  stream.resume()
  await sink.until((heard) => heard.ended)
  t.equal(sink.bytes, 15 * 16_384 + 3)
  t.equal(sink.chunks.at(-1)?.toString().slice(-3), 'end')
})

t.test('Http2Stream keeps what arrives before anybody listens', async (t) => {
  const peer = new RawPeer({ role: 'server' }, { onStream() {} }).greet()
  peer.send(open(1), data(1, 'early', endStream))
  await peer.settled()
  const sink = new RecordedSink()
  const [stream] = peer.streams
  if (stream === undefined) return
  stream.sink = sink
  await sink.until((heard) => heard.ended)
  t.equal(sink.text, 'early')
})

t.test('Http2Stream resets a stream when too much waits on the whole host', async (t) => {
  const held = new HeldBytes({ limitBytes: 1000 })
  const peer = new RawPeer({ role: 'server' }, { held }).greet().send(open(1), open(3))
  await peer.settled()
  peer.streams[0]?.pause()
  peer.send(data(1, 'x'.repeat(900)))
  await peer.settled()
  t.equal(held.bytes, 900)
  peer.streams[1]?.pause()
  peer.send(data(3, 'x'.repeat(200)))
  t.equal(await peer.resetCode(3), codes.enhanceYourCalm)
  t.equal(peer.sinks[1]?.closed?.code, 'H2_ENHANCE_YOUR_CALM')
  t.equal(held.bytes, 900, 'and forgets what it held')
  t.equal(peer.streams[0]?.closed, false)
})

t.test(
  'Http2Stream counts what waits for the peer, and is reset over too much of it',
  async (t) => {
    const held = new HeldBytes({ limitBytes: 100_000 })
    const peer = new RawPeer({ role: 'server' }, { held }).greet().send(open(1), open(3))
    await peer.settled()
    const [first, second] = peer.streams
    first?.sendHeaders([headerField(':status', '200')], false)
    t.notOk(first?.write(Buffer.alloc(65_535 + 90_000)), 'the window is used up')
    t.equal(held.bytes, 90_000)
    second?.sendHeaders([headerField(':status', '200')], false)
    second?.write(Buffer.alloc(20_000))
    t.equal(await peer.resetCode(3), codes.enhanceYourCalm)
    t.equal(held.bytes, 90_000, 'and forgets what waited')
    peer.send(frame(types.windowUpdate, 0, 0, uint32(1 << 20)))
    peer.send(frame(types.windowUpdate, 0, 1, uint32(1 << 20)))
    await peer.settled()
    t.equal(held.bytes, 0)
    t.equal(first?.closed, false)
  },
)

t.test(
  'Http2Stream sends no more than the windows allow, and goes on when they widen',
  async (t) => {
    const peer = new RawPeer({ role: 'server' }).greet(setting(4, 10)).send(open(1))
    await peer.settled()
    const [stream, sink] = [peer.streams[0], peer.sinks[0]]
    if (stream === undefined || sink === undefined) return
    t.notOk(stream.write(Buffer.from('0123456789abcdef')))
    stream.writeText('ghi')
    stream.end()
    await peer.settled()
    const sent = (): string =>
      peer.frames
        .filter((one) => one.type === types.data)
        .map((one) => one.payload.toString())
        .join('')
    t.equal(stream.waitingBytes, 9)
    peer.send(frame(types.windowUpdate, 0, 1, uint32(4)))
    await peer.settled()
    t.equal(sent(), 'abcd')
    t.equal(sink.drains, 0)
    peer.send(frame(types.windowUpdate, 0, 1, uint32(100)))
    await peer.frame((one) => one.type === types.data && (one.flags & endStream) !== 0)
    t.equal(stream.waitingBytes, 0)
  },
)

t.test('Http2Stream tells its writer when to go on', async (t) => {
  const peer = new RawPeer({ role: 'server' }).greet(setting(4, 5)).send(open(1))
  await peer.settled()
  const [stream, sink] = [peer.streams[0], peer.sinks[0]]
  if (stream === undefined || sink === undefined) return
  t.notOk(stream.write(Buffer.from('0123456789')))
  peer.send(frame(types.windowUpdate, 0, 1, uint32(5)))
  await sink.until((heard) => heard.drains === 1)
  t.equal(stream.waitingBytes, 0)
  t.notOk(stream.write(Buffer.from('x')), 'its window is empty')
})

t.test('Http2Connection shares its window among streams that wait', async (t) => {
  const peer = new RawPeer({ role: 'server' }).greet(setting(4, 1 << 20)).send(open(1), open(3))
  await peer.settled()
  const large = Buffer.alloc(1 << 20)
  for (const stream of peer.streams) stream.write(large)
  await peer.settled()
  peer.frames.length = 0
  peer.send(frame(types.windowUpdate, 0, 0, uint32(400_000)))
  await peer.settled()
  peer.send(frame(types.windowUpdate, 0, 0, uint32(400_000)))
  const bytes = { 1: 0, 3: 0 }
  while (bytes[1] + bytes[3] < 400_000) {
    await peer.settled()
    for (const one of peer.frames) {
      if (one.type === types.data) bytes[one.streamId as 1 | 3] += one.payload.length
    }
  }
  t.ok(bytes[1] > 60_000 && bytes[3] > 60_000, JSON.stringify(bytes))
})

t.test('Http2Stream says one goodbye, whoever ends it', async (t) => {
  const peer = server().send(open(1), open(3), open(5))
  await peer.settled()
  const [byReset, byAbort, byEnd] = peer.sinks
  peer.send(frame(types.rstStream, 0, 1, uint32(2)))
  peer.streams[1]?.abort()
  peer.streams[1]?.abort()
  peer.send(data(5, '', endStream))
  peer.streams[2]?.end()
  await byReset?.until((heard) => heard.closed !== undefined)
  await byAbort?.until((heard) => heard.closed !== undefined)
  await byEnd?.until((heard) => heard.closed !== undefined)
  t.match(byReset?.closed, { code: 'H2_INTERNAL_ERROR' })
  t.equal(byAbort?.closed, null)
  t.equal(byEnd?.closed, null)
  t.ok(peer.streams.every((stream) => stream.closed))
  t.equal(peer.connection.streams.size, 0)
})

t.test('Http2Connection tells every stream when the socket is lost', async (t) => {
  const peer = server().send(open(1), open(3))
  await peer.settled()
  peer.socket.destroy()
  for (const sink of peer.sinks) {
    await sink.until((heard) => heard.closed !== undefined)
    t.not(sink.closed, null)
  }
  t.not(peer.end, null)
})

t.test(
  'Http2Connection, draining, names its last stream only after the peer has heard',
  async (t) => {
    const peer = server().send(open(1))
    await peer.settled()
    peer.frames.length = 0
    peer.connection.drain()
    const first = await peer.frameOf(types.goaway)
    t.equal(first.payload.readUInt32BE(0), 0x7fffffff)
    const ping = await peer.frameOf(types.ping)
    peer.frames.length = 0
    peer.send(open(3), frame(types.ping, 1, 0, ping.payload))
    const last = await peer.frameOf(types.goaway)
    t.equal(last.payload.readUInt32BE(0), 3, 'a stream on its way is still taken')
    peer.send(open(5), data(5, 'x'))
    await peer.settled()
    t.equal(peer.streams.length, 2)
    t.equal(peer.end, null)
    for (const stream of peer.streams) stream.abort()
    await peer.frameOf(types.rstStream, 3)
    t.equal(peer.end?.code, 'H2_NO_ERROR')
  },
)

t.test('Http2Connection as a client', async (t) => {
  const client = (): RawPeer => new RawPeer({ role: 'client' }).greet()
  const responses: number[] = []
  const heads = {
    onResponse: (_: unknown, head: { readonly status: number }) => void responses.push(head.status),
    onTrailers() {},
  }
  const connect = [headerField(':method', 'CONNECT'), headerField(':authority', 'h:1')]
  const ask = (peer: RawPeer): RecordedSink => {
    const sink = new RecordedSink()
    peer.connection.open(connect, { sink, heads })
    return sink
  }
  const status = (code: string): Buffer =>
    Buffer.concat([Buffer.from([0x08, 3]), Buffer.from(code)])

  await t.test('hears a response, after interim ones', async (t) => {
    const peer = client()
    const sink = ask(peer)
    await peer.frameOf(types.headers, 1)
    peer.send(
      frame(types.headers, endHeaders, 1, status('103')),
      frame(types.headers, endHeaders, 1, status('200')),
      data(1, 'hi', endStream),
    )
    await sink.until((heard) => heard.ended)
    t.same(responses, [200])
    t.equal(sink.text, 'hi')
  })

  await t.test('resets a stream that answers wrongly', async (t) => {
    for (const frames of [
      [data(1, 'x')],
      [frame(types.headers, endHeaders, 1, status('101'))],
      [frame(types.headers, both, 1, status('100'))],
      [frame(types.headers, endHeaders, 1, [0x84])],
    ]) {
      const peer = client()
      const sink = ask(peer)
      await peer.frameOf(types.headers, 1)
      peer.send(...frames)
      t.equal(await peer.resetCode(1), codes.protocolError)
      await sink.until((heard) => heard.closed !== undefined)
    }
  })

  await t.test(
    'takes bytes and nothing else of a tunnel, however long it is said to be',
    async (t) => {
      const length = (bytes: string): Buffer =>
        Buffer.concat([Buffer.from([0x0f, 0x0d, bytes.length]), Buffer.from(bytes)])
      for (const after of [[], [status('200')], [length('1')]]) {
        const peer = client()
        const sink = ask(peer)
        await peer.frameOf(types.headers, 1)
        const granted = Buffer.concat([status('200'), length('1')])
        peer.send(frame(types.headers, endHeaders, 1, granted), data(1, 'more than one'))
        await sink.until((heard) => heard.text === 'more than one')
        if (after.length === 0) {
          peer.send(data(1, '', endStream))
          await sink.until((heard) => heard.ended)
        } else {
          peer.send(frame(types.headers, both, 1, Buffer.concat(after)))
          t.equal(await peer.resetCode(1), codes.protocolError)
        }
        t.equal(peer.end, null, 'its neighbours live on')
      }
    },
  )

  await t.test('holds the answer that grants no tunnel to the rules of every answer', async (t) => {
    const short = Buffer.concat([status('502'), Buffer.from('0f0d0132', 'hex')])
    const peer = client()
    const sink = ask(peer)
    await peer.frameOf(types.headers, 1)
    peer.send(
      frame(types.headers, endHeaders, 1, short),
      data(1, 'no'),
      frame(types.headers, both, 1),
    )
    await sink.until((heard) => heard.ended)
    ask(peer)
    peer.send(frame(types.headers, endHeaders, 3, short), data(3, 'too long'))
    t.equal(await peer.resetCode(3), codes.protocolError)
  })

  await t.test('ends a connection that opens streams or pushes', async (t) => {
    for (const frames of [
      [frame(types.headers, endHeaders, 2, status('200'))],
      [frame(types.headers, endHeaders, 7, status('200'))],
      [frame(types.pushPromise, endHeaders, 1, uint32(2))],
      [frame(types.settings, 0, 0, setting(2, 1))],
    ]) {
      const peer = client()
      ask(peer)
      await peer.frameOf(types.headers, 1)
      peer.send(...frames)
      t.equal(await peer.goawayCode(), codes.protocolError)
    }
  })

  await t.test('keeps to the number of streams the server allows', async (t) => {
    const peer = new RawPeer({ role: 'client' }).greet(setting(3, 1))
    await peer.settled()
    ask(peer)
    t.notOk(peer.connection.canOpen)
    t.equal(peer.connection.open(connect, { sink: new RecordedSink(), heads }), null)
  })

  await t.test('told to go away, fails what was not processed as safe to repeat', async (t) => {
    const peer = client()
    const [first, second] = [ask(peer), ask(peer)]
    await peer.frameOf(types.headers, 3)
    peer.send(frame(types.goaway, 0, 0, Buffer.concat([uint32(1), uint32(0)])))
    await second.until((heard) => heard.closed !== undefined)
    t.match(second.closed, { code: 'H2_REFUSED_STREAM' })
    t.equal(first.closed, undefined)
    t.notOk(peer.connection.canOpen)
    t.equal(peer.goaways, 1)
    peer.send(frame(types.headers, both, 1, status('200')))
    await first.until((heard) => heard.ended)
    t.equal(peer.end, null, 'what was processed lives on')
  })
})

t.test('Http2Connection gives up on a peer that never acknowledges SETTINGS', async (t) => {
  const alive = setInterval(() => {}, 1000)
  t.teardown(() => clearInterval(alive))
  const peer = new RawPeer({ role: 'server', settingsTimeoutMs: 5 })
  t.equal(await peer.goawayCode(), codes.settingsTimeout)
})
