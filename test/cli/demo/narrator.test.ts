import t from 'tap'
import { Narrator } from '#cli/demo/narrator.ts'
import { FakeClock } from '#test/support/fake-clock.ts'

function paper(live: boolean): { write(text: string): void; live: boolean; text: () => string } {
  let all = ''
  return { write: (text) => void (all += text), live, text: () => all }
}

t.test('Narrator tells chapters, lines and steps with the time they took', async (t) => {
  const sheet = paper(false)
  const narrator = new Narrator({ paper: sheet, clock: new FakeClock() })
  narrator.chapter('One')
  t.equal(await narrator.step('did it', async () => 7), 7)
  t.match(sheet.text(), /^\n== One\n {3}did it \(0\.\d s\)\n$/)
})

t.test('Narrator shows signs of life while a step takes its time', async (t) => {
  for (const [live, expected] of [
    [true, '\r   … slow 1 s\r   … slow 2 s\r   … slow 3 s\r\u001b[K   slow (3.0 s)\n'],
    [false, '   slow (3.0 s)\n'],
  ] as const) {
    const sheet = paper(live)
    const clock = new FakeClock()
    const done = Promise.withResolvers<void>()
    const step = new Narrator({ paper: sheet, clock }).step('slow', () => done.promise)
    await clock.advance(3000)
    done.resolve()
    await step
    t.equal(sheet.text(), expected)
  }
})

t.test('Narrator passes a failure on and leaves no timer behind', async (t) => {
  const narrator = new Narrator({ paper: paper(true), clock: new FakeClock() })
  await t.rejects(
    narrator.step('bad', () => Promise.reject(new Error('boom'))),
    /boom/,
  )
})
