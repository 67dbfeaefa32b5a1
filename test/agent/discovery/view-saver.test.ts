import t from 'tap'
import type { CachedView } from '#agent/discovery/disk-cache.ts'
import { ViewSaver } from '#agent/discovery/view-saver.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { logLines } from '#test/support/log-lines.ts'

/** A saver of a view that is revision after revision, with a disk that takes its time. */
function saving() {
  const clock = new FakeClock()
  const saves: (PromiseWithResolvers<void> & { readonly view: CachedView })[] = []
  let revision = 0
  const saver = new ViewSaver(
    {
      clock,
      logger: logLines().logger,
      cache: {
        save: (view) => {
          const save = { ...Promise.withResolvers<void>(), view }
          saves.push(save)
          return save.promise
        },
      },
      store: {
        view: { entries: new Map() },
        state: { kind: 'connected', since: 0, revision: 0 },
        onState: () => () => {},
      },
      view: () => ({ revision: (revision += 1), entries: new Map() }),
    },
    { gatherMs: 10, saveMs: 1000 },
  )
  return { clock, saves, saver }
}

t.test('of the views that wait for a slow disk the newest alone is kept', async (t) => {
  const { clock, saves, saver } = saving()
  for (let change = 0; change < 4; change += 1) {
    saver.vouched()
    await clock.advance(1000)
  }
  t.equal(saves.length, 1, 'one at a time')
  const stopped = saver.stop()
  saves[0]?.reject(new Error('no space'))
  await clock.advance(0)
  t.same(
    saves.map(({ view }) => view.revision),
    [1, 5],
  )
  saves[1]?.resolve()
  await stopped
})
