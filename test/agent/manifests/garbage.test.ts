import { renameSync, writeFileSync } from 'node:fs'
import * as fc from 'fast-check'
import t from 'tap'
import { GoodVersions } from '#agent/manifests/good-versions.ts'
import { Receipts } from '#agent/manifests/receipts.ts'
import { ManifestWatcher } from '#agent/manifests/watcher.ts'
import { systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import { readManifest } from '#shared/schema/manifest.ts'
import { logLines } from '#test/support/log-lines.ts'
import { until } from '#test/support/until.ts'

const count = 2400

const good = JSON.stringify({
  name: 'orders',
  port: 8080,
  health: { kind: 'http', path: '/up' },
  upstreams: { users: 9001, audit: 9002 },
})

/** A good manifest with a few bytes cut out, put in or doubled. */
const mutated = fc
  .tuple(
    fc.nat(),
    fc.nat({ max: 20 }),
    fc.oneof(fc.uint8Array({ maxLength: 5 }), fc.constant(null)),
  )
  .map(([at, cut, put]) => {
    const from = at % good.length
    const middle = put === null ? good.slice(from, from + cut).repeat(2) : put
    return Buffer.concat([
      Buffer.from(good.slice(0, from)),
      Buffer.from(middle),
      Buffer.from(good.slice(from + cut)),
    ])
  })

t.test(
  `${count} mutated manifests: each bad one reported once, the good ones unharmed`,
  async (t) => {
    const root = t.testdir({ 'mesh.d': { 'steady.json': '{"port": 7000}' }, state: {}, run: {} })
    const directory = `${root}/mesh.d`
    const { logger, lines } = logLines()
    const parts = { clock: systemClock, random: systemRandom, logger }
    const goodVersions = new GoodVersions(parts, { stateDirectory: `${root}/state` })
    const watcher = new ManifestWatcher({ ...parts, goodVersions }, { directory, rescanMs: 50 })
    const receipts = new Receipts(parts, { runDirectory: `${root}/run` })
    const isSteady = (): boolean => watcher.manifests.some(({ service }) => service === 'steady')
    let lost = 0
    watcher.onChange(() => {
      receipts.show(watcher.verdicts, () => ({}))
      if (!isSteady()) lost += 1
    })
    await watcher.start()

    const contents = fc.sample(mutated, { seed: 5, numRuns: count })
    const bad = new Set<string>()
    contents.forEach((content, index) => {
      const path = `${directory}/m${index}.json`
      if (!readManifest(path, content).ok) bad.add(path)
      writeFileSync(`${directory}/.next`, content)
      renameSync(`${directory}/.next`, path)
    })
    await until('all are judged', () => watcher.verdicts.length === count + 1, { withinMs: 60_000 })
    writeFileSync(`${directory}/late.json`, '{"port": 7001}')
    await until(
      'a late good one is accepted',
      () => watcher.manifests.some(({ service }) => service === 'late'),
      { withinMs: 60_000 },
    )

    const reported = lines
      .filter((line) => line['msg'] === 'manifest rejected')
      .map((line) => line['file'])
    t.ok(bad.size > count / 2, `${bad.size} are bad by themselves`)
    t.equal(new Set(reported).size, reported.length, 'none was reported twice')
    t.strictSame(
      [...bad].filter((path) => !reported.includes(path)),
      [],
      'every bad one was reported',
    )
    t.equal(lost, 0, 'the good one was in force all the time')
    const rejected = watcher.verdicts.filter(({ verdict }) => verdict === 'rejected')
    t.equal(rejected.length, reported.length)
    t.ok(rejected.every(({ problems }) => problems.length > 0))
    await watcher.stop()
    await Promise.all([goodVersions.stop(), receipts.stop()])
  },
)
