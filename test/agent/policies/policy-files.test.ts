import { chmodSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { PolicyFiles } from '#agent/policies/policy-files.ts'
import { systemClock as clock, systemRandom as random } from '#shared/lifecycle/clock.ts'
import { logLines } from '#test/support/log-lines.ts'
import { testDirectory } from '#test/support/test-directory.ts'
import { thisMachine } from '#test/support/this-machine.ts'
import { until } from '#test/support/until.ts'

const good = (from: string): string =>
  JSON.stringify({ services: ['orders'], deny: [{ from: [from] }] })

function place(t: Test) {
  const root = testDirectory(t, { 'policies.d': {}, state: {} })
  const directory = `${root}/policies.d`
  chmodSync(directory, 0o755)
  const put = (name: string, text: string): void => writeFileSync(`${directory}/${name}`, text)
  const open = async () => {
    const { logger, lines } = logLines()
    const files = new PolicyFiles(
      { clock, random, logger },
      { directory, stateDirectory: `${root}/state`, rescanMs: 100, settleMs: 50 },
    )
    await files.start()
    t.teardown(() => files.stop())
    return { files, lines }
  }
  return { root, directory, put, open }
}

const rulesOf = (files: PolicyFiles): readonly string[] =>
  files.policies.flatMap(({ deny }) => deny.flatMap(({ from }) => from.map(({ text }) => text)))

t.test('PolicyFiles has what stands there in force once it has started, and follows', async (t) => {
  const { put, open, directory } = place(t)
  put('a.json', good('evil'))
  put('.hidden.json', '{')
  const { files } = await open()
  t.same(rulesOf(files), ['service/evil'])
  put('b.json', good('worse'))
  await until('another file counts', () => rulesOf(files).length === 2)
  put('a.json', good('host/*'))
  await until('a changed file counts', () => rulesOf(files).includes('host/'))
  rmSync(`${directory}/a.json`)
  await until('a removed file does not', () => rulesOf(files).join() === 'service/worse')
})

t.test(
  'PolicyFiles keeps the last good version of a file that goes bad, also over a restart',
  async (t) => {
    const { put, open, root } = place(t)
    put('a.json', good('evil'))
    put('b.json', good('worse'))
    const first = await open()
    put('a.json', '{"services": ["orders"], "deny": [{"form": ["evil"]}]}')
    await until('it is rejected', () => first.files.verdicts[0]?.verdict === 'rejected')
    t.match(first.files.verdicts[0]?.problems, [{ line: 1, rule: 'unknown-key' }])
    t.same(rulesOf(first.files), ['service/evil', 'service/worse'])
    await until('it is kept', () => readdirSync(`${root}/state/policies`).length === 2)
    await first.files.stop()
    const second = await open()
    await until('it is judged again', () => second.files.verdicts[0]?.verdict === 'rejected')
    t.same(rulesOf(second.files), ['service/evil', 'service/worse'])
    put('a.json', good('host/*'))
    await until('it is mended', () => rulesOf(second.files)[0] === 'host/')
  },
)

t.test(
  'PolicyFiles has nothing in force of a new file that is bad, and harms no other',
  async (t) => {
    const { put, open } = place(t)
    put('a.json', '{')
    put('b.json', good('evil'))
    const { files, lines } = await open()
    await until('it is rejected', () => files.verdicts.length === 2)
    t.match(files.verdicts, [{ verdict: 'rejected', policy: null }, { verdict: 'accepted' }])
    t.same(rulesOf(files), ['service/evil'])
    t.ok(lines.some(({ msg }) => msg === 'policy rejected'))
  },
)

t.test('PolicyFiles does not believe what others can write to', async (t) => {
  const { put, open, directory } = place(t)
  put('a.json', good('evil'))
  const { files } = await open()
  put('b.json', good('worse'))
  chmodSync(`${directory}/b.json`, 0o666)
  symlinkSync(`${directory}/a.json`, `${directory}/c.json`)
  await until('both are judged', () => files.verdicts.length === 3)
  t.match(files.verdicts.slice(1), [
    { verdict: 'rejected', problems: [{ rule: 'open-to-all' }], policy: null },
    { verdict: 'rejected', problems: [{ rule: 'linked-file' }], policy: null },
  ])
  chmodSync(directory, 0o777)
  put('d.json', good('host/*'))
  await until('the directory is not read', () => /not read/.test(files.directoryProblem))
  t.same(rulesOf(files), ['service/evil'], 'what was in force stays')
  chmodSync(directory, 0o755)
  await until('it is read again', () => rulesOf(files).includes('host/'))
})

t.test(
  'PolicyFiles takes a missing directory for no policies, an unreadable one for the last',
  async (t) => {
    const { put, open, directory } = place(t)
    put('a.json', good('evil'))
    const { files } = await open()
    if (!thisMachine.isRoot) {
      chmodSync(directory, 0o000)
      await until('it cannot be read', () => files.directoryProblem !== '')
      t.same(rulesOf(files), ['service/evil'])
      chmodSync(directory, 0o755)
    }
    rmSync(directory, { recursive: true })
    await until('nothing is in force', () => files.policies.length === 0)
    t.equal(files.directoryProblem, '')
    mkdirSync(directory, { mode: 0o755 })
    put('a.json', good('evil'))
    await until('it is there again', () => files.policies.length === 1)
  },
)
