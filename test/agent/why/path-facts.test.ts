import t from 'tap'
import { pathFacts, type PathFacts } from '#agent/why/path-facts.ts'
import { readQuestion, type Question } from '#agent/why/question.ts'
import type { StatusReport } from '#shared/model/admin.ts'
import { healthyFacts } from '#test/support/agent-facts.ts'

const healthy: PathFacts = { ...healthyFacts, withheld: () => '' }

function questionOf(input: object): Question {
  const read = readQuestion(input)
  if (!read.ok) throw new Error(read.problem)
  return read.value
}

const orders = questionOf({ service: 'orders' })

function stepOf(facts: PathFacts, name: string, question = orders) {
  return pathFacts(facts, question).find((step) => step.name === name)
}

function withStatus(status: Partial<StatusReport>): PathFacts {
  return { ...healthy, status: { ...healthy.status, ...status } }
}

t.test('pathFacts finds nothing wrong with a healthy path', async (t) => {
  const steps = pathFacts(healthy, orders)
  t.same(
    steps.map(({ name, verdict }) => `${name} ${verdict}`),
    ['agent ok', 'service ok', 'caller ok', 'way in ok'],
  )
  t.equal(stepOf(healthy, 'way in')?.finding, 'orders.mesh is captured at 240.240.1.2')
})

t.test('pathFacts says what an agent that is not ready waits for', async (t) => {
  const facts = withStatus({ ready: false, waitsFor: 'a proxy worker' })
  t.match(stepOf(facts, 'agent'), { verdict: 'failed', cause: /a proxy worker/ })
})

t.test('pathFacts guesses what was meant by a name nobody has', async (t) => {
  const step = stepOf(healthy, 'service', questionOf({ service: 'odrers' }))
  t.match(step, { verdict: 'failed', fix: 'did you mean orders?' })
  const far = stepOf(healthy, 'service', questionOf({ service: 'billing' }))
  t.match(far, { verdict: 'failed', fix: /meshctl why billing/ })
})

t.test('pathFacts does not guess at a service that is known and has no instance', async (t) => {
  const services = healthy.services.map((service) => ({ ...service, instances: [] }))
  const step = stepOf({ ...healthy, services }, 'service')
  t.match(step, { verdict: 'failed', cause: /all fail their checks/, fix: /meshctl why orders/ })
})

t.test('pathFacts blames the store for what it cannot know', async (t) => {
  const facts = withStatus({ store: { kind: 'down', sinceMs: 0, reason: 'refused' } })
  const step = stepOf(facts, 'service', questionOf({ service: 'billing' }))
  t.match(step, { verdict: 'failed', cause: /the store is away \(refused\)/ })
})

t.test('pathFacts looks at the file of a local service first', async (t) => {
  const [base] = healthy.manifests
  if (base === undefined) throw new Error('there is a manifest')
  const mine = { ...base, file: 'orders.json', service: 'orders' }
  const say = (more: Partial<typeof base>, withheld = '') =>
    stepOf({ ...healthy, manifests: [{ ...mine, ...more }], withheld: () => withheld }, 'manifest')
  t.match(say({}), { verdict: 'ok', finding: /in force and offered/ })
  const broken = { verdict: 'rejected', problems: ['orders.json:1:3: no'] } as const
  t.match(say({ ...broken, service: '' }), { verdict: 'failed', cause: 'orders.json:1:3: no' })
  t.match(say(broken), { verdict: 'warning', finding: /last good version/ })
  t.match(say({ health: 'failing', healthDetail: 'refused' }), {
    verdict: 'warning',
    cause: 'refused',
  })
  t.match(say({ rotation: 'out' }), { fix: 'meshctl undrain orders' })
  t.match(say({}, 'no worker'), { verdict: 'warning', cause: 'no worker' })
})

t.test('pathFacts demands a valid certificate of the caller', async (t) => {
  const web = questionOf({ service: 'orders', caller: 'web' })
  t.match(stepOf(healthy, 'caller', web), { verdict: 'ok', finding: /service\/web$/ })
  const strange = questionOf({ service: 'orders', caller: 'nobody' })
  t.match(stepOf(healthy, 'caller', strange), { verdict: 'failed', fix: /without --as/ })
  const certificates = healthy.certificates.map((one) => ({
    ...one,
    notAfterMs: 0,
    problem: 'the controller is away',
    hint: 'start it',
  }))
  t.match(stepOf({ ...healthy, certificates }, 'caller', web), {
    verdict: 'failed',
    cause: 'the controller is away',
    fix: 'start it',
  })
  const manifests = healthy.manifests.map((one) => ({ ...one, health: 'none' as const }))
  t.match(stepOf({ ...healthy, manifests, certificates: [] }, 'caller', web), {
    verdict: 'failed',
    cause: /calls count as the host’s/,
    fix: /without --as.*"run"/,
  })
  const callers = [
    { service: 'web', user: null, unit: null, problem: 'two share one user', inbound: 'off' },
  ] as const
  const shared = withStatus({ capture: { ...healthy.status.capture, callers } })
  t.match(stepOf(shared, 'caller', web), { verdict: 'warning', cause: 'two share one user' })
})

t.test('pathFacts finds the way in: capture, listener, proxy, or none', async (t) => {
  const services = healthy.services.map((service) => ({ ...service, addresses: [] }))
  const off = { ...healthy.status.capture, kind: 'off', reason: 'not root' } as const
  const uncaptured = { ...withStatus({ capture: off }), services }
  t.match(stepOf(uncaptured, 'way in'), { finding: /listener at 127\.0\.0\.1:9001/ })
  const [worker] = healthy.status.workers
  if (worker === undefined) throw new Error('there is a worker')
  const listening = (problem: string, from: number): PathFacts => {
    const listeners = worker.listeners.slice(0, from).map((one) => ({ ...one, problem }))
    const status = { ...uncaptured.status, workers: [{ ...worker, listeners }] }
    return { ...uncaptured, status }
  }
  t.match(stepOf(listening('taken', 2), 'way in'), { verdict: 'failed', cause: 'taken' })
  t.match(stepOf(listening('', 1), 'way in'), { verdict: 'ok', finding: /http_proxy=.*not root/ })
  const raw = services.map((service) => ({ ...service, protocol: 'tcp' }))
  const stuck = { ...listening('', 1), services: raw }
  t.match(stepOf(stuck, 'way in'), { verdict: 'failed', fix: /"upstreams"/ })
})

t.test('pathFacts tells a port that nobody has from a service that nobody has', async (t) => {
  const port = { name: 'admin', port: 9090, protocol: 'tcp' }
  const services = healthy.services.map((service) => ({
    ...service,
    ports: [{ name: 'admin', protocol: 'tcp', addresses: ['240.240.1.3'] }],
    instances: service.instances.map((instance) => ({ ...instance, ports: [port] })),
  }))
  const facts = { ...healthy, services }
  const admin = questionOf({ service: 'admin.orders' })
  t.match(stepOf(facts, 'service', admin), { verdict: 'ok', finding: /^tcp, 1 instance/ })
  t.match(stepOf(facts, 'way in', admin), {
    finding: 'admin.orders.mesh is captured at 240.240.1.3',
  })
  const other = stepOf(facts, 'service', questionOf({ service: 'metrics.orders' }))
  t.match(other, { verdict: 'failed', cause: 'its ports: admin' })
})
