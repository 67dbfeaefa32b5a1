import t from 'tap'
import { FirstAnswer } from '#controller/store/first-answer.ts'
import { systemRandom as random } from '#shared/lifecycle/clock.ts'
import { createLogger } from '#shared/logging/logger.ts'
import type { KeyValue } from '#shared/store/key-value.ts'
import { FakeClock } from '#test/support/fake-clock.ts'

t.test(
  'FirstAnswer asks until the store answers, says why not, and then falls silent',
  async (t) => {
    const clock = new FakeClock()
    const lines: string[] = []
    const logger = createLogger({
      name: 'test',
      destination: { write: (line) => void lines.push(line) },
    })
    let away = true
    let asked = 0
    let answers = 0
    const store = {
      async get() {
        asked++
        if (away) throw new Error('connect ECONNREFUSED')
        return { revision: 1, entry: null }
      },
    } as unknown as KeyValue
    const onAnswer = (): void => void answers++
    const endpoints = ['http://10.0.0.1:2379']
    const first = new FirstAnswer({ store, clock, random, logger, onAnswer }, { endpoints })
    await first.start()
    t.match(first.waitsFor, /^the store at http:\/\/10\.0\.0\.1:2379: connect ECONNREFUSED$/)
    t.match(lines.join(''), /"level":"warn".*http:\/\/10\.0\.0\.1:2379 does not answer/)
    await clock.advance(500)
    t.same([asked, answers], [2, 0])
    away = false
    await clock.advance(1000)
    t.same([asked, answers, first.waitsFor], [3, 1, ''])
    await clock.advance(60_000)
    t.equal(asked, 3)
    await first.stop()
  },
)
