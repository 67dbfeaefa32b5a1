/** That work in a lane never overlaps, and that a failure is its caller's alone. */

import t from 'tap'
import { Lane } from '#shared/lifecycle/lane.ts'

t.test('work runs in order and never overlaps', async (t) => {
  const lane = new Lane()
  const steps: string[] = []
  const slow = Promise.withResolvers<void>()
  const first = lane.run(async () => {
    steps.push('first begins')
    await slow.promise
    steps.push('first ends')
    return 1
  })
  const second = lane.run(async () => {
    steps.push('second')
    return 2
  })
  await Promise.resolve()
  t.same(steps, ['first begins'])
  slow.resolve()
  t.same(await Promise.all([first, second]), [1, 2])
  t.same(steps, ['first begins', 'first ends', 'second'])
})

t.test('work that fails tells its caller and holds up nobody', async (t) => {
  const lane = new Lane()
  const failing = lane.run(() => Promise.reject(new Error('no')))
  const after = lane.run(async () => 'went on')
  await t.rejects(failing, { message: 'no' })
  t.equal(await after, 'went on')
  await lane.idle()
})
