import * as fc from 'fast-check'
import t from 'tap'
import { ByteQueue } from '#agent/http2/byte-queue.ts'

t.test('ByteQueue gives back what it was given, in order, never more than asked for', async () => {
  const step = fc.oneof(
    fc.record({ push: fc.oneof(fc.nat({ max: 100 }), fc.nat({ max: 20_000 })) }),
    fc.record({ shift: fc.integer({ min: 1, max: 9000 }) }),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
      const queue = new ByteQueue()
      let written = 0
      let read = 0
      for (const one of steps) {
        if ('push' in one) {
          queue.push(Buffer.from(Array.from({ length: one.push }, () => written++ & 0xff)))
        } else if (queue.length > 0) {
          const piece = queue.shift(one.shift)
          if (piece.length === 0 || piece.length > one.shift) return false
          for (const byte of piece) if (byte !== (read++ & 0xff)) return false
        }
        if (queue.length !== written - read) return false
      }
      return true
    }),
    { seed: 3, numRuns: 300 },
  )
})

t.test('ByteQueue does not keep large buffers alive for small pieces', async (t) => {
  const queue = new ByteQueue()
  const large = Buffer.allocUnsafeSlow(65_536)
  for (let i = 0; i < 100; i++) queue.push(large.subarray(i, i + 1))
  const piece = queue.shift(1000)
  t.equal(piece.length, 100, 'pieces are packed together')
  t.not(piece.buffer, large.buffer)
})
