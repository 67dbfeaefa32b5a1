import t from 'tap'
import { WatchStream } from '#shared/store/watch-stream.ts'
import type { RawWatchStream } from '#shared/store/watch-stream.ts'
import type { WatchRequest, WatchResponse } from '#shared/store/wire.ts'
import { watchAnswer } from '#test/support/watch-answer.ts'

/** A stream whose server is the test. */
class Played implements RawWatchStream {
  readonly requests: WatchRequest[] = []
  isCancelled = false
  readonly #listeners = new Map<string, (value: never) => void>()

  write(request: WatchRequest): void {
    this.requests.push(request)
  }

  end(): void {}

  cancel(): void {
    this.isCancelled = true
  }

  on(event: string, listener: (value: never) => void): void {
    this.#listeners.set(event, listener)
  }

  answer(fields: Partial<WatchResponse>): void {
    this.#listeners.get('data')?.(watchAnswer(fields) as never)
  }

  fail(error: Error): void {
    this.#listeners.get('error')?.(error as never)
  }
}

function playedStream() {
  const raw = new Played()
  const over: unknown[] = []
  const opening = Promise.withResolvers<RawWatchStream>()
  const stream = new WatchStream({
    open: () => opening.promise,
    onOver: (error) => over.push(error),
  })
  const add = (key: string) => {
    const told: string[] = []
    const watch = stream.add(
      { key: Buffer.from(key) },
      {
        onResponse: ({ watch_id: id, created, canceled }) =>
          told.push(canceled ? 'canceled' : created ? 'created' : id),
        onEnd: (error) => told.push(`end: ${String(error)}`),
      },
    )
    return { told, ...watch }
  }
  const open = async (): Promise<void> => {
    opening.resolve(raw)
    await settled()
  }
  return { raw, over, open, add, refuse: opening.reject }
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

t.test('WatchStream tells each watch what is its own', async (t) => {
  const { raw, open, add, over } = playedStream()
  const [a, b] = [add('a'), add('b')]
  await open()
  t.match(raw.requests, [
    { create_request: { watch_id: '1' } },
    { create_request: { watch_id: '2' } },
  ])
  raw.answer({ watch_id: '1', created: true })
  raw.answer({ watch_id: '-1' })
  t.strictSame([a.told, b.told], [['created', '-1'], []], 'b is not there yet')
  raw.answer({ watch_id: '2', created: true })
  raw.answer({ watch_id: '2' })
  a.cancel()
  a.cancel()
  raw.answer({ watch_id: '1' })
  await settled()
  t.strictSame(raw.requests.slice(2), [{ cancel_request: { watch_id: '1' } }])
  raw.answer({ watch_id: '1', canceled: true })
  t.strictSame(
    [a.told, b.told],
    [
      ['created', '-1'],
      ['created', '2'],
    ],
  )
  t.strictSame(over, [])
})

t.test(
  'a watch that a compaction ended is cancelled too, for the progress of the others',
  async (t) => {
    const { raw, open, add, over } = playedStream()
    const [a, b] = [add('a'), add('b')]
    await open()
    for (const id of ['1', '2']) raw.answer({ watch_id: id, created: true })
    raw.answer({ watch_id: '1', canceled: true, compact_revision: '7' })
    await settled()
    t.strictSame(raw.requests.slice(2), [{ cancel_request: { watch_id: '1' } }])
    raw.answer({ watch_id: '1', canceled: true })
    raw.answer({ watch_id: '2' })
    t.strictSame(a.told, ['created', 'canceled'], 'once')
    t.strictSame(b.told, ['created', '2'])
    raw.answer({ watch_id: '2', canceled: true, compact_revision: '7' })
    await settled()
    t.equal(raw.requests.length, 3, 'after the last one the stream is over')
    t.strictSame(over, [null])
  },
)

t.test('WatchStream asks once for all who want a sign of life', async (t) => {
  const { raw, open, add } = playedStream()
  const watches = ['a', 'b', 'c'].map(add)
  await open()
  for (const watch of watches) watch.requestProgress()
  await settled()
  t.equal(raw.requests.filter((request) => 'progress_request' in request).length, 1)
  for (const watch of watches) watch.requestProgress()
  await settled()
  t.equal(raw.requests.filter((request) => 'progress_request' in request).length, 2)
})

t.test('a watch that is refused, however it is called then, ends alone', async (t) => {
  const { raw, open, add, over } = playedStream()
  const [a, b, c] = [add('a'), add('b'), add('c')]
  await open()
  raw.answer({ watch_id: '-1', created: true, canceled: true })
  raw.answer({ watch_id: '2', created: true, canceled: true })
  raw.answer({ watch_id: '3', created: true })
  raw.answer({ watch_id: '3' })
  t.strictSame([a.told, b.told, c.told], [['canceled'], ['canceled'], ['created', '3']])
  t.strictSame(over, [])
})

t.test('a watch cancelled before it was made is not mistaken for the next', async (t) => {
  const { raw, open, add } = playedStream()
  const [a, b] = [add('a'), add('b')]
  a.cancel()
  await open()
  t.match(raw.requests, [
    { create_request: { watch_id: '1' } },
    { create_request: { watch_id: '2' } },
    { cancel_request: { watch_id: '1' } },
  ])
  raw.answer({ watch_id: '1', created: true })
  raw.answer({ watch_id: '2', created: true })
  t.strictSame([a.told, b.told], [[], ['created']])
})

t.test('what ends the stream ends every watch, once', async (t) => {
  const { raw, open, add, over } = playedStream()
  const [a, b] = [add('a'), add('b')]
  await open()
  raw.answer({ watch_id: '1', created: true })
  const gone = new Error('gone')
  raw.fail(gone)
  raw.fail(new Error('again'))
  raw.answer({ watch_id: '1' })
  t.strictSame([a.told, b.told], [['created', 'end: Error: gone'], ['end: Error: gone']])
  t.strictSame(over, [gone])
})

t.test('a stream that cannot be opened ends its watches', async (t) => {
  const { add, over, refuse } = playedStream()
  const a = add('a')
  t.strictSame(a.told, [])
  refuse(new Error('no connection'))
  await settled()
  t.strictSame(a.told, ['end: Error: no connection'])
  t.equal(over.length, 1)
})

t.test('a stream without watches is closed, also one that opens later', async (t) => {
  const { raw, open, add, over } = playedStream()
  const a = add('a')
  a.cancel()
  t.strictSame(over, [null])
  await open()
  t.ok(raw.isCancelled)
  t.strictSame(raw.requests, [])
})

t.test('a server that numbers watches by itself is not misunderstood', async (t) => {
  const { raw, open, add } = playedStream()
  const a = add('a')
  await open()
  raw.answer({ watch_id: '0', created: true })
  t.match(a.told, [/end: .*etcd 3\.4 or newer/])
  t.ok(raw.isCancelled)
})
