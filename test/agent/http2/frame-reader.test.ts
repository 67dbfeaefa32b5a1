import * as fc from 'fast-check'
import t from 'tap'
import { type FrameHandler, FrameReader } from '#agent/http2/frame-reader.ts'
import { frame, types } from '#test/support/raw-http2.ts'

/** Everything a reader tells, as text, with the pieces of DATA joined. */
function told(chunks: readonly Buffer[], maxFrameBytes = 16_384): string[] {
  const heard: string[] = []
  let data = ''
  const handler: FrameHandler = {
    onDataBegin: (id, flags, length) => void heard.push(`data ${id} ${flags} ${length}`),
    onData: (piece) => {
      data += piece.toString('hex')
    },
    onDataEnd: () => {
      heard.push(`end ${data}`)
      data = ''
    },
    onFrame: (type, flags, id, payload) =>
      void heard.push(`frame ${type} ${flags} ${id} ${payload.toString('hex')}`),
    onFault: (fault, id) => {
      heard.push(`${fault.scope} ${fault.code} ${id}`)
      if (fault.scope === 'connection') reader.stop()
    },
  }
  const reader = new FrameReader({ handler }, { maxFrameBytes })
  for (const chunk of chunks) reader.read(chunk)
  return heard
}

function cut(bytes: Buffer, sizes: readonly number[]): Buffer[] {
  const chunks: Buffer[] = []
  let at = 0
  for (const size of sizes) {
    chunks.push(bytes.subarray(at, at + size))
    at += size
  }
  return [...chunks, bytes.subarray(at)]
}

const anyFrame = fc
  .record({
    type: fc.constantFrom(...Object.values(types), 77),
    flags: fc.nat({ max: 255 }),
    id: fc.nat({ max: 9 }),
    payload: fc.uint8Array({ maxLength: 40 }),
  })
  .map(({ type, flags, id, payload }) => frame(type, flags, id, [...payload]))

t.test('FrameReader tells the same however the bytes are cut', async () => {
  fc.assert(
    fc.property(
      fc.array(anyFrame, { maxLength: 12 }),
      fc.array(fc.nat({ max: 30 }), { maxLength: 40 }),
      (frames, sizes) => {
        const bytes = Buffer.concat(frames)
        const whole = told([bytes])
        const inPieces = told(cut(bytes, sizes))
        const inBytes = told(
          cut(
            bytes,
            Array.from({ length: bytes.length }, () => 1),
          ),
        )
        return (
          JSON.stringify(whole) === JSON.stringify(inPieces) &&
          JSON.stringify(whole) === JSON.stringify(inBytes)
        )
      },
    ),
    { seed: 9113, numRuns: 400 },
  )
})

t.test('FrameReader hands DATA on as it arrives, without its padding', async (t) => {
  const pieces: string[] = []
  const handler: FrameHandler = {
    onDataBegin() {},
    onData: (piece) => void pieces.push(piece.toString('latin1')),
    onDataEnd: () => void pieces.push('|'),
    onFrame() {},
    onFault() {},
  }
  const reader = new FrameReader({ handler }, { maxFrameBytes: 16_384 })
  const bytes = frame(types.data, 0x8, 1, Buffer.from('\x03hello world\0\0\0', 'latin1'))
  reader.read(bytes.subarray(0, 14))
  t.same(pieces, ['hell'])
  reader.read(bytes.subarray(14, 22))
  t.same(pieces, ['hell', 'o world'])
  reader.read(bytes.subarray(22))
  t.same(pieces, ['hell', 'o world', '|'])
})

t.test('FrameReader hands whole DATA on without copying it', async (t) => {
  let heard: Buffer | null = null
  const handler: FrameHandler = {
    onDataBegin() {},
    onData: (piece) => {
      heard = piece
    },
    onDataEnd() {},
    onFrame() {},
    onFault() {},
  }
  const reader = new FrameReader({ handler }, { maxFrameBytes: 16_384 })
  const bytes = frame(types.data, 0, 1, Buffer.alloc(1000))
  reader.read(bytes.subarray(0, 9))
  const payload = bytes.subarray(9)
  reader.read(payload)
  t.equal(heard, payload)
})

t.test('FrameReader judges a frame by its header (RFC 9113 §4.2 and §6)', async (t) => {
  const size = 6
  const protocol = 1
  const cases: readonly (readonly [string, Buffer, string])[] = [
    ['a frame too long', frame(types.headers, 0, 1, Buffer.alloc(16_385)), `connection ${size} 1`],
    ['DATA on stream 0', frame(types.data, 0, 0, 'aa'), `connection ${protocol} 0`],
    ['HEADERS on stream 0', frame(types.headers, 4, 0, 'aa'), `connection ${protocol} 0`],
    ['CONTINUATION on stream 0', frame(types.continuation, 4, 0), `connection ${protocol} 0`],
    ['PRIORITY on stream 0', frame(types.priority, 0, 0, '0000000000'), `connection ${protocol} 0`],
    [
      'RST_STREAM on stream 0',
      frame(types.rstStream, 0, 0, '00000000'),
      `connection ${protocol} 0`,
    ],
    ['SETTINGS on a stream', frame(types.settings, 0, 1), `connection ${protocol} 1`],
    ['PING on a stream', frame(types.ping, 0, 1, '0000000000000000'), `connection ${protocol} 1`],
    [
      'GOAWAY on a stream',
      frame(types.goaway, 0, 1, '0000000000000000'),
      `connection ${protocol} 1`,
    ],
    ['PRIORITY of 4 bytes', frame(types.priority, 0, 1, '00000000'), `stream ${size} 1`],
    ['RST_STREAM of 3 bytes', frame(types.rstStream, 0, 1, '000000'), `connection ${size} 1`],
    ['SETTINGS of 5 bytes', frame(types.settings, 0, 0, '0000000000'), `connection ${size} 0`],
    [
      'SETTINGS ACK with content',
      frame(types.settings, 1, 0, '000000000000'),
      `connection ${size} 0`,
    ],
    ['PING of 7 bytes', frame(types.ping, 0, 0, '00000000000000'), `connection ${size} 0`],
    ['GOAWAY of 7 bytes', frame(types.goaway, 0, 0, '00000000000000'), `connection ${size} 0`],
    ['WINDOW_UPDATE of 3 bytes', frame(types.windowUpdate, 0, 0, '000000'), `connection ${size} 0`],
    ['padding beyond DATA', frame(types.data, 8, 1, '02aa'), `connection ${protocol} 1`],
    ['padded DATA without length', frame(types.data, 8, 1), `connection ${size} 1`],
  ]
  for (const [name, bytes, fault] of cases) {
    t.ok(told([bytes]).includes(fault), `${name}: ${told([bytes]).join()}`)
  }
})

t.test(
  'FrameReader reads nothing after it was stopped, not even from the same chunk',
  async (t) => {
    let frames = 0
    const handler: FrameHandler = {
      onDataBegin() {},
      onData() {},
      onDataEnd() {},
      onFrame: () => {
        frames++
        reader.stop()
      },
      onFault() {},
    }
    const reader = new FrameReader({ handler }, { maxFrameBytes: 16_384 })
    reader.read(Buffer.concat([frame(types.settings, 0, 0), frame(types.settings, 0, 0)]))
    t.equal(frames, 1)
  },
)
