import t from 'tap'
import { StreamWatches } from '#controller/store/stream-watches.ts'
import type { HubWatch, Reader } from '#controller/store/watch-hub.ts'
import type { WatchResponse } from '#shared/store/wire.ts'
import { watchAnswer } from '#test/support/watch-answer.ts'

/** Watches of a hub that the test plays: each has so many answers to give. */
function playedStream() {
  const taken: string[] = []
  const stream = { room: Number.POSITIVE_INFINITY }
  const hub = new Map<string, { left: number; reader: Reader; watch: HubWatch }>()
  const answer = (id: string): WatchResponse => watchAnswer({ watch_id: id })
  const watches = new StreamWatches({
    engine: {
      watchAnswer: answer,
      openWatch: (_request, id, reader) => {
        const watch = {
          get current() {
            return (hub.get(id)?.left ?? 0) === 0
          },
          resume: () => {
            const one = hub.get(id) ?? { left: 0 }
            while (one.left > 0 && reader.isReady) {
              one.left -= 1
              reader.take(answer(id))
            }
          },
          cancel: () => void hub.delete(id),
        }
        hub.set(id, { left: 0, reader, watch })
        return watch
      },
    },
    mayRead: ({ key }) => key?.toString() !== 'secret',
    write: (response) => {
      taken.push(
        `${response.watch_id}${response.created ? ' created' : ''}${response.canceled ? ' canceled' : ''}`,
      )
      stream.room -= 1
      return stream.room > 0
    },
  })
  const create = (id: string, key = 'a'): void =>
    watches.handle({ create_request: { watch_id: id, key: Buffer.from(key) } })
  return { watches, taken, stream, hub, create }
}

t.test('of watches behind a slow reader, who waited longest goes first', (t) => {
  const { watches, taken, stream, hub, create } = playedStream()
  for (const id of ['1', '2', '3']) create(id)
  for (const one of hub.values()) one.left = 3
  taken.length = 0
  for (let turn = 0; turn < 6; turn++) {
    stream.room = 2
    watches.resume()
  }
  t.strictSame(taken, ['1', '1', '2', '2', '3', '3', '1', '2', '3'])
  t.end()
})

t.test('once one watch has filled the stream no other writes', (t) => {
  const { watches, taken, stream, hub, create } = playedStream()
  for (const id of ['1', '2']) create(id)
  for (const one of hub.values()) one.left = 5
  taken.length = 0
  stream.room = 1
  watches.resume()
  hub.get('2')?.watch.resume()
  t.strictSame(taken, ['1'])
  t.end()
})

t.test('nobody is told that all is up to date while one watch is behind', (t) => {
  const { watches, taken, hub, create } = playedStream()
  for (const id of ['1', '2']) create(id)
  const second = hub.get('2')
  if (second === undefined) throw new Error('no second watch')
  second.left = 1
  taken.length = 0
  watches.handle({ progress_request: {} })
  t.strictSame(taken, [])
  second.watch.resume()
  watches.handle({ progress_request: {} })
  t.strictSame(taken, ['2', '-1'])
  t.end()
})

t.test('a watch that is refused or compacted away leaves the others', (t) => {
  const { watches, taken, hub, create } = playedStream()
  create('1')
  create('2', 'secret')
  create('3')
  const third = hub.get('3')
  third?.reader.take(watchAnswer({ watch_id: '3', canceled: true, compact_revision: '5' }))
  create('3')
  watches.handle({ cancel_request: { watch_id: '1' } })
  watches.handle({ cancel_request: { watch_id: '1' } })
  t.strictSame(taken, [
    '1 created',
    '-1 created canceled',
    '3 created',
    '3 canceled',
    '3 created',
    '1 canceled',
  ])
  watches.close()
  t.equal(hub.size, 0)
  t.end()
})
