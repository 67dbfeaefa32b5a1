/**
 * Runs one script of raw requests on a Watch stream of the embedded store and of a real etcd: who
 * shares a stream must be told the same by both, also of what is refused.
 */

import { join } from 'node:path'
import t from 'tap'
import { systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import { grpc, loadProto } from '#shared/rpc/grpc.ts'
import { Etcd3Rpc } from '#shared/store/etcd-rpc.ts'
import type { WatchCreateRequest, WatchRequest, WatchResponse } from '#shared/store/wire.ts'
import { serveStore } from '#test/support/embedded-store.ts'
import { noEtcd, TestEtcd } from '#test/support/etcd.ts'
import { shortDir } from '#test/support/short-dir.ts'

const call = { timeoutMs: 30_000 }
const services = loadProto(new URL('../../controller/store/etcd.proto', import.meta.url), {
  keepCase: true,
  longs: String,
})

/** One Watch stream; answers are waited for by their number. */
class Stream {
  readonly #client: grpc.Client
  readonly #stream: grpc.ClientDuplexStream<WatchRequest, WatchResponse>
  #answers: WatchResponse[] = []
  #wake: () => void = () => {}
  #failure: Error | null = null

  constructor(url: string) {
    const method = services['etcdserverpb.Watch']?.['Watch']
    if (method === undefined) throw new TypeError('etcd.proto has no Watch')
    this.#client = new grpc.Client(new URL(url).host, grpc.credentials.createInsecure())
    this.#stream = this.#client.makeBidiStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize as (bytes: Buffer) => WatchResponse,
    )
    this.#stream.on('data', (answer: WatchResponse) => {
      this.#answers.push(answer)
      this.#wake()
    })
    this.#stream.on('error', (error) => {
      this.#failure = error
      this.#wake()
    })
  }

  send(request: WatchRequest): void {
    this.#stream.write(request)
  }

  /** The next answers, those of different watches in the order of their ids. */
  async next(count: number): Promise<readonly string[]> {
    while (this.#answers.length < count) {
      if (this.#failure !== null) throw this.#failure
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
    const some = this.#answers.splice(0, count)
    const isEvents = some.every(({ events }) => events.length > 0)
    if (isEvents) some.sort((a, b) => Number(a.watch_id) - Number(b.watch_id))
    return some.map(canonical)
  }

  close(): void {
    this.#stream.on('error', () => {})
    this.#stream.cancel()
    this.#client.close()
  }
}

/** Everything but who answered; of a compaction etcd tells no other revision. */
function canonical(answer: WatchResponse): string {
  const hidden = new Set(['cluster_id', 'member_id', 'raft_term'])
  if (answer.compact_revision !== '0') hidden.add('header')
  return JSON.stringify(answer, (name, value: unknown) => (hidden.has(name) ? undefined : value))
}

const bytes = (text: string): Buffer => Buffer.from(text)
const create = (request: WatchCreateRequest): WatchRequest => ({ create_request: request })
const from = (key: string, end: string, more: Partial<WatchCreateRequest> = {}): WatchRequest =>
  create({ key: bytes(key), range_end: bytes(end), ...more })

async function transcript(url: string): Promise<readonly string[]> {
  const rpc = new Etcd3Rpc({ clock: systemClock, random: systemRandom }, { endpoints: [url] })
  const stream = new Stream(url)
  const lines: string[] = []
  const say = async (title: string, count: number): Promise<void> => {
    lines.push(title, ...(await stream.next(count)))
  }
  const put = (key: string, value: string): Promise<unknown> =>
    rpc.put({ key: bytes(key), value: bytes(value) }, call)
  const ask = async (title: string, request: WatchRequest, answers: number): Promise<void> => {
    stream.send(request)
    await say(title, answers)
  }
  try {
    for (const n of [1, 2, 3]) await put('a', String(n))
    await ask('the server numbers the first', from('a', 'b'), 1)
    await ask(
      'the client numbers one, with history',
      from('a', 'b', { watch_id: '7', start_revision: '3' }),
      2,
    )
    await ask('a number twice', from('x', 'y', { watch_id: '7' }), 1)
    await ask('an empty range', from('b', 'a'), 1)
    await ask('the client takes the next number', from('p', 'q', { watch_id: '1' }), 1)
    await ask('the server goes past it', from('b', 'c', { prev_kv: true }), 1)
    await ask('and on', from('b', 'c', { filters: ['Noput'] }), 1)
    await ask('from a revision to come', from('b', 'c', { start_revision: '8', watch_id: '8' }), 1)
    await put('b', 'first')
    await say('a put that one sees', 1)
    await rpc.txn(
      {
        success: [
          { request_put: { key: bytes('a'), value: bytes('t') } },
          { request_delete_range: { key: bytes('b') } },
          { request_put: { key: bytes('z') } },
        ],
      },
      call,
    )
    await say('a transaction that four see', 4)
    await ask('one ends', { cancel_request: { watch_id: '7' } }, 1)
    stream.send({ cancel_request: { watch_id: '7' } })
    await ask('it is not there any more, and all are up to date', { progress_request: {} }, 1)
    await ask('its number is free', from('q', 'r', { watch_id: '7' }), 1)
    await put('a', 'after')
    await say('the others go on', 1)
    await rpc.compact({ revision: '6', physical: true }, call)
    await ask('what is compacted', from('a', 'b', { start_revision: '2', watch_id: '20' }), 2)
    await put('b', 'eighth')
    await say('the revision to come has come', 2)
    await ask('everything', create({ range_end: bytes('\0'), watch_id: '30' }), 1)
    await put('zz', 'last')
    await say('which sees all', 1)
  } finally {
    stream.close()
    rpc.close()
  }
  return lines
}

t.test(
  'a stream of several watches reads the same of both',
  { skip: noEtcd ?? false },
  async (t) => {
    const dir = shortDir(t)
    const etcd = await TestEtcd.start(join(dir, 'etcd'))
    const served = await serveStore(join(dir, 'store.db'))
    t.teardown(async () => {
      await served.stop()
      await etcd.kill()
    })
    const [theirs, mine] = await Promise.all([transcript(etcd.url), transcript(served.url)])
    t.strictSame(mine, theirs)
  },
)
