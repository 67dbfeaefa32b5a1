import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { linkSync, renameSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import * as fc from 'fast-check'
import t from 'tap'
import { GoodVersions } from '#agent/manifests/good-versions.ts'
import { Receipts } from '#agent/manifests/receipts.ts'
import { ManifestWatcher } from '#agent/manifests/watcher.ts'
import { systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import { readManifest } from '#shared/schema/manifest.ts'
import { logLines } from '#test/support/log-lines.ts'
import { testDirectory } from '#test/support/test-directory.ts'
import { until } from '#test/support/until.ts'

// Files are looked at many times here, and a busy machine takes its time for each.
t.setTimeout(180_000)

const waves = 10
const filesInWave = 1000
const patience = { withinMs: 120_000 }

/** A manifest that claims nothing another one does. */
function goodOne(index: number): string {
  return JSON.stringify({
    name: `m${index}`,
    port: 10_000 + index,
    tags: ['a', 'b'],
    health: [{ kind: 'http', path: '/up' }, { kind: 'push' }],
    upstreams: { users: 20_000 + index },
  })
}

/** Where to cut a text, how much of it, and what to put there; null doubles what was cut. */
const wound = fc.tuple(
  fc.nat(),
  fc.nat({ max: 20 }),
  fc.oneof(
    fc.uint8Array({ maxLength: 5 }),
    fc
      .constantFrom('"__proto__":{"port":1},', '[[[[[[', '{"a":', ',"port":1', '\0', '\u202e')
      .map((text) => Buffer.from(text)),
    fc.constant(null),
  ),
)

function mutated(
  text: string,
  [at, cut, put]: typeof wound extends fc.Arbitrary<infer T> ? T : never,
) {
  const from = at % text.length
  const middle = put === null ? text.slice(from, from + cut).repeat(2) : put
  return Buffer.concat([
    Buffer.from(text.slice(0, from)),
    Buffer.from(middle),
    Buffer.from(text.slice(from + cut)),
  ])
}

/** What cannot be a manifest whatever stands in it, or stands in it whatever it is. */
function nasty(directory: string): Readonly<Record<string, string>> {
  const put = (name: string, content: string | Buffer): void =>
    writeFileSync(`${directory}/${name}.json`, content)
  put('huge', '{"port": 1}')
  truncateSync(`${directory}/huge.json`, 2 ** 31)
  put('deep', `{"port": ${'['.repeat(60_000)}`)
  put('twice', '{"port": 1, "port": 2}')
  put('proto', '{"port": 1, "__proto__": {"weight": 1}}')
  put('bytes', Buffer.from([0x7b, 0x22, 0xc3, 0x28, 0x22, 0x7d]))
  put('empty', '')
  put('twin', '{"port": 1}')
  linkSync(`${directory}/twin.json`, `${directory}/twin-of`)
  symlinkSync('/dev/zero', `${directory}/zero.json`)
  symlinkSync('steady.json', `${directory}/link.json`)
  execFileSync('mkfifo', [`${directory}/pipe.json`])
  return {
    huge: 'too-large',
    deep: 'too-deep',
    twice: 'duplicate-key',
    proto: 'forbidden-key',
    bytes: 'not-utf8',
    empty: 'json-syntax',
    twin: 'linked-file',
    zero: 'linked-file',
    link: 'linked-file',
    pipe: 'not-a-file',
  }
}

t.test(
  '10,000 mutated manifests: each bad one reported once, the good ones unharmed',
  async (t) => {
    const root = testDirectory(t, {
      'mesh.d': { 'steady.json': '{"port": 7000}' },
      state: {},
      run: {},
    })
    const directory = `${root}/mesh.d`
    const expected = nasty(directory)
    const { logger, lines } = logLines()
    const parts = { clock: systemClock, random: systemRandom, logger }
    const goodVersions = new GoodVersions(parts, { stateDirectory: `${root}/state` })
    const watcher = new ManifestWatcher({ ...parts, goodVersions }, { directory, rescanMs: 50 })
    const receipts = new Receipts(parts, { runDirectory: `${root}/run` })
    let lost = 0
    watcher.onChange(() => {
      receipts.show(watcher.verdicts, () => ({}))
      if (!watcher.manifests.some(({ service }) => service === 'steady')) lost += 1
    })
    await watcher.start()

    const wounds = fc.sample(wound, { seed: 5, numRuns: waves * filesInWave })
    let bad = 0
    const before = new Map<string, string>()
    for (let wave = 0; wave < waves; wave += 1) {
      const begin = lines.length
      const wanted = new Map<string, { readonly isGood: boolean; readonly hash: string }>()
      for (let index = 0; index < filesInWave; index += 1) {
        const path = `${directory}/m${index}.json`
        const one = wounds[wave * filesInWave + index]
        const content = one === undefined ? Buffer.alloc(0) : mutated(goodOne(index), one)
        const hash = createHash('sha256').update(content).digest('hex')
        wanted.set(path, { isGood: readManifest(path, content).ok, hash })
        writeFileSync(`${directory}/.next`, content)
        renameSync(`${directory}/.next`, path)
      }
      // Another good one with each wave, looked at after all of it.
      writeFileSync(`${directory}/late.json`, JSON.stringify({ port: 7001, weight: wave + 1 }))
      await until(
        `wave ${wave} is judged`,
        () =>
          watcher.manifests.some(
            ({ service, weight }) => service === 'late' && weight === wave + 1,
          ) &&
          watcher.verdicts.length === filesInWave + 2 + Object.keys(expected).length &&
          watcher.verdicts.every(({ path, hash }) => (wanted.get(path)?.hash ?? hash) === hash),
        patience,
      )
      const reports = lines
        .slice(begin)
        .filter((line) => line['msg'] === 'manifest rejected')
        .map((line) => ({ file: String(line['file']), problems: JSON.stringify(line['problems']) }))
      const said = reports.map(({ file, problems }) => `${file} ${problems}`)
      const files = new Set(reports.map(({ file }) => file))
      const silent = [...wanted].filter(
        ([path, { isGood, hash }]) => !isGood && !files.has(path) && before.get(path) !== hash,
      )
      t.strictSame(silent, [], `wave ${wave}: every bad one was reported`)
      t.equal(new Set(said).size, said.length, `wave ${wave}: none was reported twice`)
      for (const [path, { hash }] of wanted) before.set(path, hash)
      bad += [...wanted.values()].filter(({ isGood }) => !isGood).length
    }
    t.ok(bad > (waves * filesInWave) / 2, `${bad} were bad by themselves`)
    t.equal(lost, 0, 'the good one was in force all the time')
    for (const [name, rule] of Object.entries(expected)) {
      const path = `${directory}/${name}.json`
      const reports = lines.filter((line) => line['file'] === path)
      t.match(reports, [{ msg: 'manifest rejected', rules: [rule] }], `${name} was reported`)
      t.equal(reports.length, 1, `${name} was reported once`)
    }
    t.ok(
      watcher.verdicts.every(
        ({ verdict, problems }) => (verdict === 'rejected') === problems.length > 0,
      ),
    )
    await watcher.stop()
    await Promise.all([goodVersions.stop(), receipts.stop()])
  },
)
