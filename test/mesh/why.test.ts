import { writeFileSync } from 'node:fs'
import t from 'tap'
import type { DemoHost } from '#cli/demo/demo-host.ts'
import type { WhyAnswer, WhyQuestion } from '#shared/model/why.ts'
import { MeshWorld } from '#test/support/mesh-world.ts'

// Programs start here; on a busy machine each takes seconds.
t.setTimeout(600_000)

const mesh = await MeshWorld.raise(t)
const { alpha, beta } = mesh
const port = 8080

const orders = mesh.serve(beta, 'http', 'orders', port)
mesh.serve(beta, 'greeter', 'greeter', 8083)
const manifest = { port, address: beta.place.local, allow: ['host/alpha'] }
beta.dropManifest('orders', manifest)
beta.dropManifest('greeter', { port: 8083, address: beta.place.local, protocol: 'tcp' })
alpha.dropManifest('web', { upstreams: { greeter: 9003 } })
await mesh.sees(alpha, 'orders', ['beta'])
await mesh.sees(alpha, 'greeter', ['beta'])
await mesh.sees(beta, 'orders', ['beta'])

const why = (from: DemoHost, question: WhyQuestion): Promise<WhyAnswer> =>
  from.admin.tell('why', question)

const culprit = ({ steps }: WhyAnswer) => steps.find(({ verdict }) => verdict === 'failed')

/** Asks until the answer is what it should come to. */
async function comesTo(from: DemoHost, question: WhyQuestion, culpritIs: object): Promise<void> {
  let last: WhyAnswer | null = null
  await mesh.until(`${from.name} says why ${question.service} does not answer`, async () => {
    last = await why(from, question)
    return fits(culprit(last), culpritIs)
  })
  t.match(culprit(last as unknown as WhyAnswer), culpritIs)
}

function fits(step: object | undefined, pattern: object): boolean {
  if (step === undefined) return false
  const values = step as Readonly<Record<string, string>>
  return Object.entries(pattern as Readonly<Record<string, string | RegExp>>).every(
    ([key, wanted]) =>
      wanted instanceof RegExp ? wanted.test(values[key] ?? '') : values[key] === wanted,
  )
}

t.test(
  'why walks the path of a call that works, and sends a request only when told to',
  async (t) => {
    const quiet = await why(alpha, { service: 'orders.mesh' })
    t.equal(quiet.verdict, 'works', JSON.stringify(quiet))
    t.match(quiet.steps.at(-2), { name: /on beta$/, verdict: 'ok', finding: /mutual TLS to/ })
    t.match(quiet.steps.at(-1), { name: 'request', verdict: 'skipped' })
    const asked = await why(alpha, { service: 'orders', request: { method: 'GET', path: '/a' } })
    t.match(asked.steps.at(-1), {
      verdict: 'ok',
      finding: 'GET /a to beta: 200, from the service itself',
    })
  },
)

t.test('why opens a raw service without taking its greeting', async (t) => {
  const answer = await why(alpha, { service: 'greeter' })
  t.equal(answer.verdict, 'works', JSON.stringify(answer))
  t.match(answer.steps.at(-1), { name: 'request', verdict: 'skipped', finding: /not HTTP/ })
})

t.test('why names the rule and the file that refuse a caller, here and far away', async (t) => {
  const file = beta.path('mesh.d/orders.json')
  const near = await why(beta, { service: 'orders' })
  t.equal(near.verdict, 'broken')
  t.match(culprit(near), { finding: 'policy-denied', cause: new RegExp(file) })
  beta.dropManifest('orders', { ...manifest, allow: ['web'] })
  await comesTo(alpha, { service: 'orders' }, { finding: 'policy-denied', cause: new RegExp(file) })
  beta.dropManifest('orders', manifest)
  await mesh.until('alpha may call again', async () => {
    return (await why(alpha, { service: 'orders' })).verdict === 'works'
  })
})

t.test('why knows a misspelt name, a broken file and a caller that is not there', async (t) => {
  t.match(culprit(await why(alpha, { service: 'odrers' })), { fix: 'did you mean orders?' })
  t.match(culprit(await why(alpha, { service: 'orders', caller: 'ghost' })), { name: 'caller' })
  writeFileSync(beta.path('mesh.d/broken.json'), '{ "port": "x" }')
  await comesTo(beta, { service: 'broken' }, { name: 'manifest', cause: /broken\.json:1:\d+/ })
  await t.rejects(why(alpha, { service: 'orders', request: { method: 'POST', path: '/' } }), {
    code: 'agent-refused',
  })
})

t.test('why on its own host tells that the service fails its check', async (t) => {
  orders.signal('SIGKILL')
  await comesTo(beta, { service: 'orders' }, { name: 'service' })
  const manifestStep = async () =>
    (await why(beta, { service: 'orders' })).steps.find(({ name }) => name === 'manifest')
  // A dial fails at once, a check only once it has been made often enough.
  await mesh.until('the check fails too', async () => (await manifestStep())?.verdict === 'warning')
  t.match(await manifestStep(), { verdict: 'warning', finding: /health check fails/ })
})
