import { readdirSync, readFileSync, statSync } from 'node:fs'
import t from 'tap'
import type { ReceiptFacts, Verdict } from '#agent/manifests/receipt.ts'
import { Receipts } from '#agent/manifests/receipts.ts'
import { systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import { readManifest } from '#shared/schema/manifest.ts'
import { logLines } from '#test/support/log-lines.ts'
import { manifestOf } from '#test/support/manifests.ts'
import { testDirectory } from '#test/support/test-directory.ts'

const orders = manifestOf({ port: 8080 })
const accepted: Verdict = {
  path: '/etc/mesh.d/orders.json',
  user: null,
  hash: 'h1',
  judgedAtMs: 1000,
  verdict: 'accepted',
  problems: [],
  manifest: orders,
}
const bad = readManifest('/etc/mesh.d/orders.json', Buffer.from('{\n  "prot": 80\n}'))
const problems = bad.ok ? [] : bad.problems

const parts = { clock: systemClock, random: systemRandom, logger: logLines().logger }

t.test('each manifest has a receipt that says what became of it', async (t) => {
  const runDirectory = testDirectory(t, { status: { 'old.json': '{}' } })
  const receipts = new Receipts(parts, { runDirectory })
  const show = async (verdicts: readonly Verdict[], facts: ReceiptFacts = {}) => {
    receipts.show(verdicts, () => facts)
    await receipts.settled()
    return readdirSync(`${runDirectory}/status`).map((name) => [
      name,
      JSON.parse(readFileSync(`${runDirectory}/status/${name}`, 'utf8')) as unknown,
    ])
  }
  t.strictSame(await show([accepted]), [
    [
      'orders.json',
      {
        file: '/etc/mesh.d/orders.json',
        contentHash: 'h1',
        verdict: 'accepted',
        judgedAt: '1970-01-01T00:00:01.000Z',
        service: 'orders',
        inForce: 'this version',
        problems: [],
      },
    ],
  ])
  t.equal(statSync(`${runDirectory}/status/orders.json`).mode & 0o777, 0o644)
  t.match(await show([{ ...accepted, verdict: 'rejected', problems }]), [
    [
      'orders.json',
      {
        verdict: 'rejected',
        inForce: 'last good version',
        problems: [{ line: 2, column: 3, rule: 'unknown-key', hint: /did you mean "port"/ }],
      },
    ],
  ])
  t.match(await show([{ ...accepted, verdict: 'rejected', problems, manifest: null }]), [
    ['orders.json', { service: null, inForce: 'nothing' }],
  ])
  const facts: ReceiptFacts = {
    health: { state: 'passing', detail: 'status 200', checks: [] },
    published: {
      ok: true,
      detail: '',
      revision: 7,
      instances: [{ host: 'a', id: '1', port: 8080, weight: 100 }],
    },
    certificate: { spiffeId: 'spiffe://m/service/orders', serial: 'ab', notAfterMs: 86_400_000 },
  }
  t.match(await show([accepted], facts), [
    [
      'orders.json',
      {
        health: { state: 'passing', detail: 'status 200' },
        published: { ok: true, revision: 7, instances: [{ host: 'a' }] },
        certificate: { serial: 'ab', notAfter: '1970-01-02T00:00:00.000Z' },
      },
    ],
  ])
  t.strictSame(await show([]), [])
  await receipts.stop()
})

t.test('a user’s receipts stand in a directory of their own, for everybody to read', async (t) => {
  const before = process.umask(0o077)
  t.teardown(() => process.umask(before))
  const runDirectory = testDirectory(t, {})
  const receipts = new Receipts(parts, { runDirectory })
  const path = '/etc/mesh.d/alice/orders.json'
  receipts.show([accepted, { ...accepted, path, user: 'alice' }], () => ({}))
  await receipts.stop()
  for (const name of ['orders.json', 'alice/orders.json']) {
    t.equal(statSync(`${runDirectory}/status/${name}`).mode & 0o777, 0o644)
  }
  t.equal(statSync(`${runDirectory}/status/alice`).mode & 0o777, 0o755)
})

t.test('what has not changed is not asked about, unless it is on its way', async (t) => {
  const runDirectory = testDirectory(t)
  const receipts = new Receipts(parts, { runDirectory })
  const verdicts = ['a', 'b', 'c'].map((name): Verdict => {
    const manifest = manifestOf({ port: 8080 }, name)
    return { ...accepted, path: `/etc/mesh.d/${name}.json`, manifest }
  })
  const pending = new Set(['b'])
  const asked: string[] = []
  const factsOf = ({ manifest }: Verdict): ReceiptFacts => {
    const service = manifest?.service ?? ''
    asked.push(service)
    const ok = !pending.has(service)
    return { published: { ok, detail: ok ? '' : 'not yet', revision: 0, instances: [] } }
  }
  const askedFor = (changed: string): readonly string[] => {
    asked.length = 0
    receipts.show(verdicts, factsOf, ({ manifest }) => manifest?.service === changed)
    return [...asked]
  }
  t.same(askedFor(''), ['a', 'b', 'c'], 'all at first')
  t.same(askedFor('c'), ['b', 'c'])
  pending.clear()
  t.same(askedFor(''), ['b'])
  t.same(askedFor(''), [], 'it is there now')
  verdicts[0] = { ...accepted, path: '/etc/mesh.d/a.json' }
  t.same(askedFor(''), ['orders'], 'another verdict is another receipt')
  await receipts.settled()
  const said = (name: string): unknown =>
    JSON.parse(readFileSync(`${runDirectory}/status/${name}.json`, 'utf8'))
  t.match(said('b'), { published: { ok: true } })
  t.match(said('a'), { service: 'orders' })
  t.match(said('c'), { service: 'c' })
})
