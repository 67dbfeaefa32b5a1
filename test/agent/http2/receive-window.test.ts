import * as fc from 'fast-check'
import t from 'tap'
import { ReceiveWindow } from '#agent/http2/receive-window.ts'

const settings = { initialBytes: 262_144, maxBytes: 4_194_304 }

t.test(
  'ReceiveWindow grows for a fast consumer and gives credit back in large steps',
  async (t) => {
    const window = new ReceiveWindow(settings)
    let grants = 0
    for (let taken = 0; taken < 32 * 1024 * 1024; taken += 16_384) {
      window.arrive(16_384)
      window.take(16_384)
      if (window.grant() > 0) grants++
    }
    t.equal(window.sizeBytes, settings.maxBytes)
    t.ok(grants < 25, `${grants} grants`)
  },
)

t.test('ReceiveWindow shrinks for a consumer that lets a window pile up', async (t) => {
  const window = new ReceiveWindow(settings)
  for (let round = 0; round < 8; round++) {
    window.strain()
    const bytes = window.sizeBytes
    window.arrive(bytes)
    window.take(bytes)
    window.grant()
  }
  t.equal(window.sizeBytes, 65_535)
})

t.test('ReceiveWindow never promises more than its size, nor stalls a consumer', async () => {
  const step = fc.record({
    arrive: fc.nat({ max: 100_000 }),
    take: fc.nat({ max: 100_000 }),
    strain: fc.boolean(),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const window = new ReceiveWindow(settings)
      let credit = settings.initialBytes
      let waiting = 0
      for (const { arrive, take, strain } of steps) {
        const bytes = Math.min(arrive, credit)
        if (!window.arrive(bytes)) return false
        credit -= bytes
        waiting += bytes
        const taken = Math.min(take, waiting)
        waiting -= taken
        if (strain) window.strain()
        window.take(taken)
        const grant = window.grant()
        if (grant < 0) return false
        credit += grant
        if (credit + waiting > window.sizeBytes) return false
      }
      window.take(waiting)
      credit += window.grant()
      return credit > 0
    }),
    { seed: 5, numRuns: 500 },
  )
})

t.test('ReceiveWindow tells when the peer sends without credit', async (t) => {
  const window = new ReceiveWindow(settings)
  t.ok(window.arrive(settings.initialBytes))
  t.notOk(window.arrive(1))
})
