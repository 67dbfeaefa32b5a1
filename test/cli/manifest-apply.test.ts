import { createHash } from 'node:crypto'
import { execFile } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  cpSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { AdminSocket } from '#cli/client/admin-socket.ts'
import { manifestApply, type ManifestApplySettings } from '#cli/manifest-apply.ts'
import { Printer } from '#cli/output/printer.ts'
import { systemClock } from '#shared/lifecycle/clock.ts'
import type { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { Receipt } from '#shared/model/receipt.ts'
import { testDirectory } from '#test/support/test-directory.ts'
import { until } from '#test/support/until.ts'

const good = '{"port": 8080}\n'
const hash = createHash('sha256').update(good).digest('hex')
const receipt: Receipt = {
  file: '',
  contentHash: hash,
  verdict: 'accepted',
  judgedAt: '2026-01-01T00:00:00.000Z',
  service: 'orders',
  inForce: 'this version',
  problems: [],
}
const publication = { detail: 'its health check does not pass', revision: 0, instances: [] }

/** A host without an agent that answers: receipts are written by the test. */
function hostOf(t: Test) {
  const root = testDirectory(t, {
    'orders.json': good,
    'bad.json': '{\n  "prot": 80}',
    '.hidden.json': good,
    'mesh.d': { me: {} },
    run: { status: { me: {} } },
  })
  const lines: string[] = []
  const out = (text: string): void => void lines.push(text)
  const printer = new Printer({ streams: { out, err: out } }, { json: false })
  const agent = new AdminSocket({ socketPath: `${root}/run/agent.sock` })
  const apply = (file: string, more: Partial<ManifestApplySettings> = {}): Promise<number> =>
    manifestApply(
      { agent, clock: systemClock, printer },
      { file: `${root}/${file}`, user: 'me', directory: `${root}/mesh.d`, waitMs: 0, ...more },
    )
  const answer = (content: Receipt, below = ''): void =>
    writeFileSync(`${root}/run/status/${below}orders.json`, JSON.stringify(content))
  return { root, apply, answer, said: () => lines.join('') }
}

t.test('manifest apply puts a good file in place, whole and readable', async (t) => {
  const { root, apply, said } = hostOf(t)
  t.equal(await apply('orders.json'), 0)
  t.equal(readFileSync(`${root}/mesh.d/orders.json`, 'utf8'), good)
  t.strictSame(readdirSync(`${root}/mesh.d`), ['me', 'orders.json'])
  t.match(said(), /mesh\.d\/orders\.json: in place/)
})

t.test('manifest apply leaves a bad file out, with the place of its fault', async (t) => {
  const { root, apply, said } = hostOf(t)
  t.equal(await apply('bad.json'), 1)
  t.match(said(), /bad\.json:2:3: unknown key "prot"/)
  t.equal(await apply('.hidden.json'), 2)
  t.equal(await apply('none.json'), 1)
  t.match(said(), /none\.json: cannot be read/)
  t.strictSame(readdirSync(`${root}/mesh.d`), ['me'])
})

const hintOf = (error: unknown): unknown => (error as MeshError).hint

t.test('manifest apply says of a directory that is missing how it is made', async (t) => {
  const { root, apply } = hostOf(t)
  const missing = { directory: `${root}/none.d` }
  await t.rejects(apply('orders.json', missing), {
    code: 'file',
    hint: `the directory is missing: install -d -m 755 ${root}/none.d`,
  })
  // Where a file stands in its place nobody may write, and root needs no directory of its own.
  const blocked = { directory: `${root}/orders.json` }
  const asRoot = await apply('orders.json', { ...blocked, isRoot: true }).catch(hintOf)
  t.equal(asRoot, '')
  t.match(await apply('orders.json', blocked).catch(hintOf), /install -d -o me /)
})

t.test('manifest apply waits until what it dropped is published', async (t) => {
  const { apply, answer, said } = hostOf(t)
  answer({ ...receipt, contentHash: 'of the version before' })
  const applied = apply('orders.json', { waitMs: 60_000 })
  answer({ ...receipt, published: { ...publication, ok: false } })
  answer({ ...receipt, published: { ...publication, ok: true, detail: '', revision: 4 } })
  t.equal(await applied, 0)
  t.match(said(), /orders is published/)
})

t.test('manifest apply shows what a receipt warns of', async (t) => {
  const { apply, answer, said } = hostOf(t)
  answer({ ...receipt, warnings: ['port 8080: \u001b[2J'] })
  t.equal(await apply('orders.json', { waitMs: 60_000 }), 0)
  t.match(said(), /orders is in force\nwarning: port 8080: \?\[2J$/m)
})

t.test('manifest apply fails by the receipt of a rejected file', async (t) => {
  const { apply, answer, said } = hostOf(t)
  const problem = { file: 'x.json', line: 1, column: 2, rule: 'r', message: 'taken', hint: 'ask' }
  answer({ ...receipt, verdict: 'rejected', problems: [problem] })
  t.equal(await apply('orders.json', { waitMs: 60_000 }), 1)
  t.match(said(), /x\.json:1:2: taken \(ask\)/)
})

t.test('manifest apply says what is missing when its time is over', async (t) => {
  const { apply, answer, said } = hostOf(t)
  const health = { state: 'failing', detail: 'ECONNREFUSED', checks: [] }
  t.equal(await apply('orders.json', { waitMs: 1 }), 1)
  answer({ ...receipt, health, published: { ...publication, ok: false } })
  t.equal(await apply('orders.json', { waitMs: 1 }), 1)
  t.match(said(), /has not read it yet[^]*health check does not pass \(ECONNREFUSED\)/)
})

t.test('manifest apply takes no publication for its own while the first check runs', async (t) => {
  const { apply, answer, said } = hostOf(t)
  const of = (state: string) => ({
    ...receipt,
    health: { state, detail: 'not checked yet', checks: [] },
    published: { ...publication, ok: true, detail: '', revision: 4 },
  })
  answer(of('starting'))
  t.equal(await apply('orders.json', { waitMs: 1 }), 1)
  t.match(said(), /accepted, but its first check is under way \(not checked yet\)/)
  answer(of('failing'))
  t.equal(await apply('orders.json', { waitMs: 1 }), 1, 'and not before it is withdrawn')
  const applied = apply('orders.json', { waitMs: 60_000 })
  answer(of('passing'))
  t.equal(await applied, 0)
  t.match(said(), /orders is published/)
})

t.test('manifest apply takes the user’s own directory where the other is not his', async (t) => {
  hostOf(t)
  // Where nobody but root may go, root itself would have nothing to show.
  const root = mkdtempSync(join(tmpdir(), 'hm-'))
  t.teardown(() => rmSync(root, { recursive: true, force: true }))
  cpSync(t.testdirName, root, { recursive: true })
  for (const path of ['', 'mesh.d']) chmodSync(join(root, path), 0o755)
  const own = process.getuid?.() ?? 0
  const user = own === 0 ? 65_534 : own
  if (own === 0) chownSync(`${root}/mesh.d/me`, user, user)
  else chmodSync(`${root}/mesh.d`, 0o555)
  const words = [String(user), `${root}/orders.json`, `${root}/mesh.d`, `${root}/run/agent.sock`]
  const applied = promisify(execFile)(process.execPath, [
    join(import.meta.dirname, '../support/apply-as.ts'),
    ...words,
  ])
  await until('it is there', () => readdirSync(`${root}/mesh.d/me`).length > 0)
  t.strictSame(readdirSync(`${root}/mesh.d`), ['me'])
  const status = `${root}/run/status/me/orders.json`
  // Whole at once, as the agent does: somebody else reads it.
  writeFileSync(`${status}.new`, JSON.stringify({ ...receipt, verdict: 'accepted' }))
  renameSync(`${status}.new`, status)
  const { stdout } = await applied
  t.match(stdout, /me\/orders\.json: orders is in force/)
})
