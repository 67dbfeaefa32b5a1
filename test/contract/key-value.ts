/**
 * Owns the contract of `KeyValue`: what every store must do, run by `store.test.ts` against each.
 * Every test works under a prefix of its own, so that one server serves them all. It is longer than
 * others because a contract is one list.
 */

import { createHash } from 'node:crypto'
import type { Test } from 'tap'
import type { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { Entry, KeyValue, StoreEvent, WatchSink } from '#shared/store/key-value.ts'
import type { LeaseId } from '#shared/store/key-value.ts'

/** Runs the suite. `open` makes a new client of one store. */
export async function keyValueContract(t: Test, open: () => KeyValue): Promise<void> {
  const store = open()
  // The stores' own timers keep no process alive.
  const alive = setInterval(() => {}, 1000)
  t.teardown(() => {
    clearInterval(alive)
    store.close()
  })
  let tests = 0
  const it = (
    sentence: string,
    run: (t: Test, prefix: string) => Promise<void>,
  ): Promise<unknown> =>
    t.test(sentence, (t) => {
      tests += 1
      return run(t, `/contract/${tests}/`)
    })

  await it('a key that was never put is absent', async (t, prefix) => {
    const { entry } = await store.get(`${prefix}a`)
    t.equal(entry, null)
  })

  await it('keys below a prefix are counted', async (t, prefix) => {
    t.equal(await store.count(prefix), 0)
    for (const key of ['a/1', 'a/2', 'b']) await store.put(`${prefix}${key}`, 'x')
    t.same(
      await Promise.all(['', 'a/', 'c'].map((end) => store.count(`${prefix}${end}`))),
      [3, 2, 0],
    )
  })

  await it('a put creates a key, and another put makes a new version of it', async (t, prefix) => {
    const first = await store.put(`${prefix}a`, 'one')
    const second = await store.put(`${prefix}a`, 'zwei – δύο')
    t.equal(second.revision, first.revision + 1)
    const { entry, revision } = await store.get(`${prefix}a`)
    t.equal(revision, second.revision)
    t.strictSame(entry, {
      key: `${prefix}a`,
      value: 'zwei – δύο',
      createRevision: first.revision,
      modRevision: second.revision,
      version: 2,
      lease: null,
    })
  })

  await it('a delete answers whether there was anything, and makes no revision of nothing', async (t, prefix) => {
    const put = await store.put(`${prefix}a`, 'one')
    const deleted = await store.delete(`${prefix}a`)
    t.strictSame(deleted, { revision: put.revision + 1, deleted: true })
    t.strictSame(await store.delete(`${prefix}a`), { revision: put.revision + 1, deleted: false })
    t.equal((await store.get(`${prefix}a`)).entry, null)
  })

  await it('a key put again after a delete starts at version 1', async (t, prefix) => {
    await store.put(`${prefix}a`, 'one')
    await store.delete(`${prefix}a`)
    const again = await store.put(`${prefix}a`, 'two')
    t.match((await store.get(`${prefix}a`)).entry, {
      version: 1,
      createRevision: again.revision,
      modRevision: again.revision,
    })
  })

  await it('a listing holds the keys of its prefix only, in order', async (t, prefix) => {
    await store.put(`${prefix}in/b`, '2')
    await store.put(`${prefix}in/a`, '1')
    await store.put(`${prefix}in0`, 'outside')
    await store.put(`${prefix}in`, 'outside')
    const listing = await store.list(`${prefix}in/`)
    t.strictSame(pairs(listing.entries), [
      [`${prefix}in/a`, '1'],
      [`${prefix}in/b`, '2'],
    ])
  })

  await it('a listing longer than a page is complete and of one revision', async (t, prefix) => {
    const keys = Array.from({ length: 2050 }, (_, at) => `${prefix}${String(at).padStart(5, '0')}`)
    let revision = 0
    for (let at = 0; at < keys.length; at += 100) {
      const result = await store.transact({
        compare: [],
        success: keys.slice(at, at + 100).map((key) => ({ kind: 'put', key, value: key })),
      })
      revision = result.revision
    }
    const listing = await store.list(prefix)
    t.equal(listing.revision, revision)
    t.strictSame(
      listing.entries.map((entry) => entry.key),
      keys,
    )
  })

  await it('a listing as of an old revision shows what was there then', async (t, prefix) => {
    const then = await store.put(`${prefix}a`, 'old')
    await store.put(`${prefix}a`, 'new')
    await store.put(`${prefix}b`, 'new')
    const listing = await store.list(prefix, { revision: then.revision })
    t.strictSame(pairs(listing.entries), [[`${prefix}a`, 'old']])
  })

  await it('a key is told as it was at an old revision, and none of what came later', async (t, prefix) => {
    const before = await store.put(`${prefix}other`, 'x')
    const then = await store.put(`${prefix}a`, 'old')
    await store.put(`${prefix}a`, 'new')
    const at = async (revision: number): Promise<Entry | null> =>
      (await store.get(`${prefix}a`, { revision })).entry
    t.match(await at(then.revision), { value: 'old', version: 1, modRevision: then.revision })
    t.equal(await at(before.revision), null)
    await t.rejects(at(then.revision + 1000), { code: 'store-future-revision' })
  })

  await it('a listing as of a revision to come is refused', async (t, prefix) => {
    const { revision } = await store.get(`${prefix}a`)
    await t.rejects(store.list(prefix, { revision: revision + 1000 }), {
      code: 'store-future-revision',
    })
  })

  await it('a transaction on a mod revision runs one branch or the other', async (t, prefix) => {
    const key = `${prefix}a`
    const put = await store.put(key, 'one')
    const attempt = (equals: number): ReturnType<KeyValue['transact']> =>
      store.transact({
        compare: [{ kind: 'mod-revision', key, equals }],
        success: [
          { kind: 'put', key, value: 'two' },
          { kind: 'get', key },
        ],
        failure: [{ kind: 'get', key }],
      })
    const lost = await attempt(put.revision - 1)
    t.equal(lost.succeeded, false)
    t.match(lost.results, [{ kind: 'get', entry: { value: 'one' } }])
    t.equal(lost.revision, put.revision, 'a branch that writes nothing makes no revision')
    const won = await attempt(put.revision)
    t.equal(won.succeeded, true)
    t.match(won.results, [{ kind: 'put' }, { kind: 'get', entry: { value: 'two', version: 2 } }])
    t.equal(won.revision, put.revision + 1)
  })

  await it('a transaction can demand that a key does not exist', async (t, prefix) => {
    const create = (): ReturnType<KeyValue['transact']> =>
      store.transact({
        compare: [{ kind: 'version', key: `${prefix}a`, equals: 0 }],
        success: [{ kind: 'put', key: `${prefix}a`, value: 'mine' }],
      })
    t.equal((await create()).succeeded, true)
    t.equal((await create()).succeeded, false)
  })

  await it('a transaction on a value never holds for an absent key', async (t, prefix) => {
    const result = await store.transact({
      compare: [{ kind: 'value', key: `${prefix}a`, equals: '' }],
      success: [{ kind: 'put', key: `${prefix}a`, value: 'x' }],
    })
    t.equal(result.succeeded, false)
  })

  await it('all writes of a transaction share one revision', async (t, prefix) => {
    await store.put(`${prefix}gone`, 'x')
    const result = await store.transact({
      compare: [],
      success: [
        { kind: 'put', key: `${prefix}a`, value: '1' },
        { kind: 'put', key: `${prefix}b`, value: '2' },
        { kind: 'delete', key: `${prefix}gone` },
        { kind: 'delete', key: `${prefix}never` },
      ],
    })
    t.match(result.results.slice(2), [
      { kind: 'delete', deleted: true },
      { kind: 'delete', deleted: false },
    ])
    const { entries } = await store.list(prefix)
    t.strictSame(
      entries.map((entry) => entry.modRevision),
      [result.revision, result.revision],
    )
  })

  await it('a transaction that writes a key twice is refused and writes nothing', async (t, prefix) => {
    const twice = store.transact({
      compare: [],
      success: [
        { kind: 'put', key: `${prefix}a`, value: '1' },
        { kind: 'put', key: `${prefix}a`, value: '2' },
      ],
    })
    await t.rejects(twice, { code: 'store-refused', message: /duplicate key/ })
    t.strictSame((await store.list(prefix)).entries, [])
  })

  await it('a transaction of more than 128 steps is refused', async (t, prefix) => {
    const success = Array.from({ length: 129 }, (_, at) => ({
      kind: 'put' as const,
      key: `${prefix}${at}`,
      value: '',
    }))
    await t.rejects(store.transact({ compare: [], success }), { code: 'store-refused' })
  })

  await it('an empty key is refused', async (t) => {
    await t.rejects(store.put('', 'x'), {
      code: 'store-refused',
      message: /key is not provided/,
    })
  })

  await it('revoking a lease deletes its keys in one revision', async (t, prefix) => {
    const { lease, ttlMs } = await store.grantLease(30_000)
    t.equal(ttlMs, 30_000)
    await store.put(`${prefix}a`, '1', { lease })
    await store.put(`${prefix}b`, '2', { lease })
    const other = await store.put(`${prefix}c`, '3')
    t.equal((await store.get(`${prefix}a`)).entry?.lease, lease)
    await store.revokeLease(lease)
    const listing = await store.list(prefix)
    t.strictSame(pairs(listing.entries), [[`${prefix}c`, '3']])
    t.equal(listing.revision, other.revision + 1)
  })

  await it('a key put again without its lease outlives it', async (t, prefix) => {
    const { lease } = await store.grantLease(30_000)
    await store.put(`${prefix}a`, '1', { lease })
    await store.put(`${prefix}a`, '2')
    await store.revokeLease(lease)
    t.equal((await store.get(`${prefix}a`)).entry?.value, '2')
  })

  await it('a lease that is gone can be neither renewed, revoked nor used', async (t, prefix) => {
    const { lease } = await store.grantLease(30_000)
    t.strictSame(await store.keepAlive(lease), { ttlMs: 30_000 })
    await store.revokeLease(lease)
    const gone = { code: 'store-lease-not-found' }
    await t.rejects(store.keepAlive(lease), gone)
    await t.rejects(store.revokeLease(lease), gone)
    await t.rejects(store.put(`${prefix}a`, '1', { lease }), gone)
    await t.rejects(store.put(`${prefix}a`, '1', { lease: '12345' as LeaseId }), gone)
  })

  await it('a lease nobody renews lapses, and its keys are deleted', async (t, prefix) => {
    const seen = new Seen()
    const { revision } = await store.get(prefix)
    const watch = store.watch(prefix, revision + 1, seen)
    const { lease } = await store.grantLease(1000)
    await store.put(`${prefix}a`, '1', { lease })
    await seen.until((events) => events.some((event) => event.kind === 'delete'))
    watch.cancel()
    t.match(seen.events, [{ kind: 'put' }, { kind: 'delete', key: `${prefix}a` }])
  })

  await it('a watch sees every change from its revision on, in order', async (t, prefix) => {
    const first = await store.put(`${prefix}a`, '1')
    await store.put(`${prefix}a`, '2')
    await store.put(`/contract-elsewhere`, 'not seen')
    const seen = new Seen()
    const watch = store.watch(prefix, first.revision, seen)
    await store.delete(`${prefix}a`)
    const last = await store.put(`${prefix}b`, '3')
    await seen.until((events) => events.length >= 4)
    watch.cancel()
    t.match(seen.events, [
      { kind: 'put', entry: { key: `${prefix}a`, value: '1', version: 1 } },
      { kind: 'put', entry: { key: `${prefix}a`, value: '2', version: 2 } },
      { kind: 'delete', key: `${prefix}a`, modRevision: last.revision - 1 },
      { kind: 'put', entry: { key: `${prefix}b`, value: '3', modRevision: last.revision } },
    ])
    t.equal(seen.events.length, 4)
  })

  await it('a watch gets all changes of one revision together', async (t, prefix) => {
    const seen = new Seen()
    const { revision } = await store.get(prefix)
    const watch = store.watch(prefix, revision + 1, seen)
    await store.transact({
      compare: [],
      success: ['a', 'b', 'c'].map((key) => ({ kind: 'put', key: `${prefix}${key}`, value: key })),
    })
    await seen.until((events) => events.length >= 3)
    watch.cancel()
    t.equal(seen.batches, 1)
  })

  await it('a watch answers a request for progress while nothing changes', async (t, prefix) => {
    const seen = new Seen()
    const { revision } = await store.get(prefix)
    const watch = store.watch(prefix, revision + 1, seen)
    await store.put(`${prefix}a`, '1')
    await seen.until((events) => events.length === 1)
    const before = seen.progress
    watch.requestProgress()
    await seen.untilProgress(before + 1)
    watch.cancel()
    t.ok(seen.progress > before)
  })

  await it('a watch that was cancelled is told nothing more', async (t, prefix) => {
    const seen = new Seen()
    const other = new Seen()
    const { revision } = await store.get(prefix)
    const watch = store.watch(prefix, revision + 1, seen)
    const witness = store.watch(prefix, revision + 1, other)
    await store.put(`${prefix}a`, '1')
    await Promise.all([seen, other].map((each) => each.until((events) => events.length === 1)))
    watch.cancel()
    watch.cancel()
    await store.put(`${prefix}b`, '2')
    await other.until((events) => events.length === 2)
    witness.cancel()
    t.equal(seen.events.length, 1)
    t.equal(seen.ended, null)
  })

  await it('several prefixes are listed in full as of one revision', async (t, prefix) => {
    const sizes = [0, 1, 700, 1200]
    for (const [at, size] of sizes.entries()) {
      const keys = Array.from(
        { length: size },
        (_, n) => `${prefix}${at}/${String(n).padStart(5, '0')}`,
      )
      for (let from = 0; from < size; from += 100) {
        const some = keys.slice(from, from + 100)
        await store.transact({
          compare: [],
          success: some.map((key) => ({ kind: 'put', key, value: key })),
        })
      }
    }
    const { revision } = await store.put(`${prefix}other`, 'not asked for')
    const prefixes = sizes.map((_, at) => `${prefix}${at}/`)
    const one = await store.listAll(prefixes)
    t.equal(one.revision, revision)
    const each = await Promise.all(prefixes.map((some) => store.list(some)))
    t.strictSame(
      one.entries,
      each.flatMap(({ entries }) => entries),
    )
    const many = Array.from({ length: 120 }, (_, at) => `${prefix}${at}/`)
    t.equal((await store.listAll(many)).entries.length, 1901)
  })

  await it('watches of one client see what is theirs, and end one by one', async (t, prefix) => {
    const { revision } = await store.get(prefix)
    const watches = ['a/', 'b/', 'a/1'].map((end) => {
      const seen = new Seen()
      return { seen, watch: store.watch(`${prefix}${end}`, revision + 1, seen) }
    })
    const told = (): readonly (readonly string[])[] =>
      watches.map(({ seen }) =>
        seen.events.map((event) => (event.kind === 'put' ? event.entry.value : 'gone')),
      )
    await store.transact({
      compare: [],
      success: ['a/1', 'a/2', 'b/1'].map((key) => ({
        kind: 'put',
        key: `${prefix}${key}`,
        value: key,
      })),
    })
    const counts = [2, 1, 1]
    for (const [at, { seen }] of watches.entries()) {
      await seen.until((events) => events.length === counts[at])
    }
    t.strictSame(told(), [['a/1', 'a/2'], ['b/1'], ['a/1']])
    watches[0]?.watch.cancel()
    await store.put(`${prefix}a/1`, 'again')
    await store.put(`${prefix}b/1`, 'again')
    for (const { seen } of watches.slice(1)) await seen.until((events) => events.length === 2)
    t.strictSame(told(), [
      ['a/1', 'a/2'],
      ['b/1', 'again'],
      ['a/1', 'again'],
    ])
    for (const { watch } of watches) watch.cancel()
    t.ok(watches.every(({ seen }) => seen.ended === null))
  })

  await it('a watch that a compaction ends, ends alone', async (t, prefix) => {
    const old = await store.put(`${prefix}a`, '1')
    const now = await store.put(`${prefix}a`, '2')
    const witness = new Seen()
    const watch = store.watch(prefix, now.revision, witness)
    await witness.until((events) => events.length === 1)
    await store.compact(now.revision)
    const late = new Seen()
    store.watch(prefix, old.revision, late)
    t.match(await late.untilEnd(), { code: 'store-compacted' })
    await store.put(`${prefix}a`, '3')
    await witness.until((events) => events.length === 2)
    const { progress } = witness
    watch.requestProgress()
    await witness.untilProgress(progress + 1)
    t.equal(witness.ended, null)
    watch.cancel()
  })

  await it('a watch gets what is too large for one message, beside others', async (t, prefix) => {
    const { revision } = await store.get(prefix)
    const value = 'x'.repeat(100_000)
    for (const part of [0, 1, 2]) {
      await store.transact({
        compare: [],
        success: Array.from({ length: 12 }, (_, at) => ({
          kind: 'put',
          key: `${prefix}large/${part}${at}`,
          value,
        })),
      })
    }
    await store.put(`${prefix}small`, 'y')
    const [large, small] = [new Seen(), new Seen()]
    const watches = [
      store.watch(`${prefix}large/`, revision + 1, large),
      store.watch(`${prefix}small`, revision + 1, small),
    ]
    await Promise.all([
      large.until((events) => events.length === 36),
      small.until((events) => events.length === 1),
    ])
    for (const watch of watches) watch.cancel()
    t.ok(large.events.every((event) => event.kind === 'put' && event.entry.value === value))
  })

  await it('a compacted revision can be neither listed nor watched', async (t, prefix) => {
    const old = await store.put(`${prefix}a`, '1')
    await store.put(`${prefix}a`, '2')
    const now = await store.put(`${prefix}a`, '3')
    await store.compact(now.revision)
    await t.rejects(store.list(prefix, { revision: old.revision }), { code: 'store-compacted' })
    await t.rejects(store.compact(old.revision), { code: 'store-compacted' })
    const listing = await store.list(prefix, { revision: now.revision })
    t.strictSame(pairs(listing.entries), [[`${prefix}a`, '3']])
    const seen = new Seen()
    store.watch(prefix, old.revision, seen)
    const error = await seen.untilEnd()
    t.equal((error as MeshError).code, 'store-compacted')
    t.strictSame(seen.events, [])
  })

  await it('a call whose signal aborts is given up', async (t, prefix) => {
    const given = { signal: AbortSignal.abort() }
    await t.rejects(store.get(`${prefix}a`, given), { code: 'store-cancelled' })
    await t.rejects(store.put(`${prefix}a`, '1', given), { code: 'store-cancelled' })
    t.equal((await store.get(`${prefix}a`)).entry, null)
  })

  await it('it tells its revision, size and that it can be written', async (t, prefix) => {
    const { revision } = await store.put(`${prefix}a`, 'x')
    const status = await store.status()
    t.match(status, { revision, version: /^3\.\d+\.\d+$/, hasLeader: true, problems: [] })
    t.ok(status.bytes >= status.bytesInUse && status.bytesInUse > 0, JSON.stringify(status))
  })

  await it('a snapshot is whole, by the hash it ends with', async (t, prefix) => {
    await store.put(`${prefix}a`, 'x'.repeat(300_000))
    const pieces: Buffer[] = []
    for await (const piece of store.snapshot()) pieces.push(piece)
    const all = Buffer.concat(pieces)
    t.ok(all.length > 300_000)
    const hash = createHash('sha256').update(all.subarray(0, -32)).digest()
    t.ok(hash.equals(all.subarray(-32)))
  })

  await it('closing a client ends neither its leases nor other clients', async (t, prefix) => {
    const other = open()
    const { lease } = await other.grantLease(30_000)
    await other.put(`${prefix}a`, '1', { lease })
    other.close()
    t.equal((await store.get(`${prefix}a`)).entry?.lease, lease)
    await store.revokeLease(lease)
  })
}

function pairs(entries: readonly Entry[]): readonly (readonly [string, string])[] {
  return entries.map((entry) => [entry.key, entry.value])
}

/** Collects what a watch tells, and waits for it. */
export class Seen implements WatchSink {
  readonly events: StoreEvent[] = []
  batches = 0
  progress = 0
  ended: Error | null = null
  #waiting: (() => void)[] = []

  onEvents(events: readonly StoreEvent[]): void {
    this.events.push(...events)
    this.batches += 1
    this.#wake()
  }

  onProgress(): void {
    this.progress += 1
    this.#wake()
  }

  onEnd(error: Error): void {
    this.ended = error
    this.#wake()
  }

  async until(enough: (events: readonly StoreEvent[]) => boolean): Promise<void> {
    while (!enough(this.events)) {
      if (this.ended !== null) throw this.ended
      await this.#next()
    }
  }

  async untilProgress(count: number): Promise<void> {
    while (this.progress < count) await this.#next()
  }

  async untilEnd(): Promise<Error> {
    while (this.ended === null) await this.#next()
    return this.ended
  }

  #next(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve))
  }

  #wake(): void {
    const waiting = this.#waiting
    this.#waiting = []
    for (const resolve of waiting) resolve()
  }
}
