import t from 'tap'
import { CaptureLifts } from '#agent/interception/lifts.ts'
import { must, parseServiceName } from '#shared/model/names.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { silentLogger as logger } from '#test/support/silent-logger.ts'
import { testDirectory } from '#test/support/test-directory.ts'

const orders = must(parseServiceName('orders'))
const wish = { by: 'ann', reason: 'a test' }

t.test('CaptureLifts keeps what operators lifted over a restart, and no longer', async (t) => {
  const clock = new FakeClock()
  const settings = { stateDirectory: testDirectory(t) }
  const first = new CaptureLifts({ clock, logger }, settings)
  await first.load()
  await first.setWhole(wish, 'ann')
  t.ok(await first.bypass(orders, clock.now() + 60_000, wish))
  await first.stop()

  const second = new CaptureLifts({ clock, logger }, settings)
  await second.load()
  t.match(second.whole, wish)
  t.match(second.bypasses, [{ ...wish, service: 'orders' }])
  let changes = 0
  second.onChange(() => changes++)
  await clock.advance(59_000)
  t.equal(second.bypasses.length, 1)
  await clock.advance(2000)
  t.same(second.bypasses, [], 'a bypass ends by itself')
  t.equal(changes, 1)
  await second.setWhole(null, 'bob')
  await second.stop()

  const third = new CaptureLifts({ clock, logger }, settings)
  await third.load()
  t.equal(third.whole, null)
  t.same(third.bypasses, [])
  t.notOk(await third.end(orders, 'ann'))
})

t.test('CaptureLifts starts without a damaged file', async (t) => {
  const stateDirectory = testDirectory(t, {
    'capture-lifts.json': '{"whole": {"by": 3}, "bypasses": [1',
  })
  const lifts = new CaptureLifts({ clock: new FakeClock(), logger }, { stateDirectory })
  await lifts.load()
  t.equal(lifts.whole, null)
})
