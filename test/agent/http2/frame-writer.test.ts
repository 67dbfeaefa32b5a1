import { Writable } from 'node:stream'
import { setImmediate as nextTurn } from 'node:timers/promises'
import t from 'tap'
import { FrameWriter } from '#agent/http2/frame-writer.ts'
import { FakeClock } from '#test/support/fake-clock.ts'

/** A writer, its clock, and the text of each write that reached its socket. */
function made() {
  const writes: string[] = []
  const socket = new Writable({
    decodeStrings: true,
    write(chunk: Buffer, _encoding, done) {
      writes.push(chunk.toString('latin1').replaceAll(/[^a-z]/g, ''))
      done()
    },
  })
  const clock = new FakeClock()
  const writer = new FrameWriter({ socket: socket as never, clock })
  return { writer, clock, writes }
}

t.test('FrameWriter writes frames of one turn together', async (t) => {
  const { writer, writes } = made()
  writer.text(1, 'first')
  await nextTurn()
  writer.text(1, 'a')
  await Promise.resolve()
  writer.text(3, 'b')
  t.same(writes, ['first'], 'and not before its end, because one was written just now')
  await nextTurn()
  t.same(writes, ['first', 'ab'])
})

t.test('FrameWriter has a frame after a silence wait for nothing but its caller', async (t) => {
  const { writer, clock, writes } = made()
  writer.text(1, 'a')
  writer.text(3, 'b')
  t.same(writes, [], 'what the caller does at once still goes out together')
  await Promise.resolve()
  t.same(writes, ['ab'])
  await clock.advance(1)
  writer.text(1, 'c')
  await Promise.resolve()
  t.same(writes, ['ab', 'c'])
})
