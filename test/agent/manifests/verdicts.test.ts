/** Judging what has changed alone comes to what judging everything comes to. */

import * as fc from 'fast-check'
import t from 'tap'
import { FileRecord } from '#agent/manifests/file-record.ts'
import { Verdicts } from '#agent/manifests/verdicts.ts'
import { systemClock } from '#shared/lifecycle/clock.ts'
import { readManifest } from '#shared/schema/manifest.ts'
import { logLines } from '#test/support/log-lines.ts'

/** One change: a file is written, with good content or bad, or has gone. */
const change = fc.record({
  file: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f'),
  user: fc.constantFrom(null, 'alice', 'bob'),
  address: fc.constantFrom('127.0.0.1', '127.0.0.1', '127.0.0.2'),
  name: fc.constantFrom('orders', 'alice', 'alice-two', 'pay'),
  port: fc.integer({ min: 8080, max: 8083 }),
  upstream: fc.constantFrom(null, 9001, 9002, 8083),
  kind: fc.constantFrom('good', 'good', 'good', 'bad', 'gone'),
})
/** Either may register whatever he likes. */
const users = { alice: ['*'], bob: ['*'] }
type Change = typeof change extends fc.Arbitrary<infer T> ? T : never

/** Files and the verdicts on them. */
class Directory {
  /** Addresses that are not of this host. */
  readonly elsewhere = new Set<string>()
  readonly lines = logLines()
  readonly records = new Map<string, FileRecord>()
  readonly verdicts = new Verdicts(
    {
      clock: systemClock,
      logger: this.lines.logger,
      goodVersions: { keep: () => {} } as never,
      isLocal: (address) => !this.elsewhere.has(address),
    },
    { own: [], explicitAddress: '127.0.0.1' },
  )

  /** Makes changes; answers the paths. */
  make(changes: readonly Change[], time: number): ReadonlySet<string> {
    const paths = new Set<string>()
    for (const one of changes) {
      const path = one.user === null ? `/m/${one.file}.json` : `/m/${one.user}/${one.file}.json`
      paths.add(path)
      if (one.kind === 'gone') this.records.delete(path)
      else this.#write(path, one, time)
    }
    return paths
  }

  #write(path: string, change: Change, time: number): void {
    const { user, name, address, port, upstream, kind } = change
    const content = {
      name,
      address,
      port,
      ...(upstream === null ? {} : { upstreams: { other: upstream } }),
    }
    const text = kind === 'bad' ? '{' : JSON.stringify(content)
    const reading = readManifest(path, Buffer.from(text), user === null ? {} : { owner: user })
    const record = this.records.get(path) ?? new FileRecord(null, user)
    this.records.set(path, record)
    const version = { path, stamp: '', hash: text, mtimeMs: 1 + time, text, reading }
    record.see({ kind: 'read', version }, time + 1_000_000, time + 1_000_000)
  }

  /** Judges all for as long as that is outdated. */
  settle(): void {
    for (let judgements = 0; this.verdicts.isOutdated(); judgements++) {
      if (judgements > 2) throw new Error('outdated for ever')
      this.verdicts.judge(this.records, users)
    }
  }

  /** Who else claims the same may be told one judgement later, and is no part of it. */
  get told() {
    return this.verdicts.all.map(({ path, verdict, manifest }) => ({
      path,
      verdict,
      service: manifest?.service ?? null,
      port: manifest?.port ?? null,
    }))
  }
}

t.test('what has changed may be judged alone', async (t) => {
  let apart = 0
  fc.assert(
    fc.property(
      fc.array(fc.array(change, { minLength: 1, maxLength: 2 }), { maxLength: 20 }),
      (steps) => {
        const [some, all] = [new Directory(), new Directory()]
        for (const [time, changes] of steps.entries()) {
          const paths = some.make(changes, time)
          all.make(changes, time)
          some.verdicts.judge(some.records, users, paths)
          all.verdicts.judge(all.records, users)
          apart += 1
          if (JSON.stringify(some.told) !== JSON.stringify(all.told)) {
            throw new Error(`${JSON.stringify(some.told)}\n${JSON.stringify(all.told)}`)
          }
        }
      },
    ),
    { seed: 12, numRuns: 1000 },
  )
  t.ok(apart > 1000)
})

t.test(
  'an address that comes or goes makes the verdicts outdated until all are judged',
  async (t) => {
    const directory = new Directory()
    const { verdicts, records, elsewhere } = directory
    const file = { user: null, upstream: null, kind: 'good' } as const
    const paths = directory.make(
      [
        { ...file, file: 'a', name: 'orders', address: '127.0.0.1', port: 8080 },
        { ...file, file: 'b', name: 'pay', address: '127.0.0.2', port: 8081 },
      ],
      1,
    )
    const accepted = () =>
      verdicts.all.filter(({ verdict }) => verdict === 'accepted').map(({ path }) => path)
    verdicts.judge(records, users, paths)
    t.notOk(verdicts.isOutdated())
    elsewhere.add('127.0.0.2')
    t.ok(verdicts.isOutdated())
    const more = { ...file, file: 'c', name: 'alice', address: '127.0.0.2', port: 8082 } as const
    verdicts.judge(records, users, directory.make([more], 2))
    t.strictSame(
      accepted(),
      ['/m/a.json', '/m/b.json'],
      'who has not changed is not judged with it',
    )
    t.ok(verdicts.isOutdated(), 'and is not forgotten')
    directory.settle()
    t.strictSame(accepted(), ['/m/a.json'])
    t.notOk(verdicts.isOutdated())
    elsewhere.clear()
    t.ok(verdicts.isOutdated())
    directory.settle()
    t.strictSame(accepted(), ['/m/a.json', '/m/b.json', '/m/c.json'])
  },
)

t.test(
  'an address that is back before anybody looked leaves nothing judged by its absence',
  async (t) => {
    const directory = new Directory()
    const { verdicts, records, elsewhere } = directory
    const at = { file: 'a', user: null, address: '127.0.0.2' } as const
    const file = { ...at, name: 'orders', upstream: null, kind: 'good' } as const
    const inForce = () => verdicts.manifests.map(({ port }) => Number(port))
    verdicts.judge(records, users, directory.make([{ ...file, port: 8080 }], 1))
    elsewhere.add('127.0.0.2')
    verdicts.judge(records, users, directory.make([{ ...file, port: 8081 }], 2))
    t.strictSame(inForce(), [])
    elsewhere.clear()
    t.ok(verdicts.isOutdated())
    directory.settle()
    t.strictSame(inForce(), [8081])
  },
)

t.test(
  'who was judged before the one that came into force is told of it the next time',
  async (t) => {
    const directory = new Directory()
    const { verdicts, records } = directory
    const file = { user: null, address: '127.0.0.1', kind: 'good' } as const
    const [e, x, z] = [
      { ...file, file: 'e', name: 'orders', port: 8080, upstream: 9001 },
      { ...file, file: 'f', name: 'pay', port: 8080, upstream: null },
      { ...file, file: 'a', name: 'alice', port: 8083, upstream: 9001 },
    ] as const
    const faults = () => verdicts.all.find(({ path }) => path === '/m/e.json')?.problems.length
    verdicts.judge(records, users, directory.make([z], 1))
    verdicts.judge(records, users, directory.make([e], 2))
    t.equal(faults(), 1)
    verdicts.judge(records, users, directory.make([x], 3))
    directory.settle()
    t.equal(faults(), 2)
  },
)
