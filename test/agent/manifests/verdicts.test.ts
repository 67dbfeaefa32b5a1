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
  readonly lines = logLines()
  readonly records = new Map<string, FileRecord>()
  readonly verdicts = new Verdicts(
    {
      clock: systemClock,
      logger: this.lines.logger,
      goodVersions: { keep: () => {} } as never,
      isLocal: () => true,
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
