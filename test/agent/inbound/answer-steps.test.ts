import t from 'tap'
import { InstanceLoads } from '#agent/balance/instance-loads.ts'
import { AnswerSteps } from '#agent/inbound/answer-steps.ts'
import { LocalInstances } from '#agent/inbound/local-instances.ts'
import { readRequestHead, type RequestHead } from '#agent/http1/head.ts'
import { ChannelPool } from '#agent/tunnel/channel-pool.ts'
import { must, parseHostName } from '#shared/model/names.ts'
import type { Policy } from '#shared/model/policy.ts'
import { hostId } from '#shared/model/spiffe-id.ts'
import { PolicyTable } from '#shared/policy/policy-table.ts'
import { FakeChannel } from '#test/support/fake-channel.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { policyOf } from '#test/support/policies.ts'
import { self, snapshotOf, trustDomain, type InstanceWish } from '#test/support/snapshots.ts'

const peer = hostId(trustDomain, must(parseHostName('alice')))
const here = { service: 'orders', host: self, port: 8080 }

function headFor(method: string, target: string): RequestHead {
  const limits = { maxBytes: 65_536, maxFields: 100 }
  const head = readRequestHead(`${method} ${target} HTTP/1.1\r\nhost: orders.mesh\r\n`, limits)
  if (head.kind === 'fault') throw new Error(head.problem)
  return head
}

const plain = headFor('GET', '/')

function makeSteps(...rules: readonly Policy[]) {
  const clock = new FakeClock()
  const dialled: number[] = []
  const policies = new PolicyTable()
  const loads = new InstanceLoads({ shareOf: (limit) => limit })
  let full = 0
  const instances = new LocalInstances({
    loads,
    local: { dial: (_, port) => void dialled.push(port) },
    makePool: () => new ChannelPool({ clock }),
    policies,
  })
  const apply = (wishes: readonly InstanceWish[], now: readonly Policy[] = rules): void => {
    const snapshot = snapshotOf(wishes, [], now)
    policies.apply(snapshot)
    loads.apply(snapshot.local)
    instances.apply(snapshot)
  }
  apply([here])
  const instance = instances.find('orders', '1')
  if (instance === null) throw new Error('no orders')
  const steps = new AnswerSteps({ instance, source: peer, onFull: () => void full++ })
  return { steps, apply, dialled, timesFull: () => full }
}

t.test('AnswerSteps gives one decision for every request while nothing changes', async (t) => {
  const { steps, apply } = makeSteps()
  const first = steps.decide(plain)
  t.match(first, {
    kind: 'forward',
    service: 'orders',
    destination: 'spiffe://mesh.internal/service/orders',
    upstream: { host: self, instance: '1' },
  })
  apply([here, { service: 'files', host: self }])
  t.equal(steps.decide(plain), first)
})

t.test('AnswerSteps follows its instance to another port, request by request', async (t) => {
  const { steps, apply, dialled } = makeSteps()
  steps.decide(plain)
  apply([{ ...here, port: 9090 }])
  const decision = steps.decide(plain)
  if (decision.kind === 'forward') decision.upstream.open({ onOpen() {}, onOpenFailed() {} })
  t.same(dialled, [9090])
})

t.test('AnswerSteps gives an instance no more requests at once than it may have', async (t) => {
  const { steps, apply, timesFull } = makeSteps()
  apply([{ ...here, maxConcurrent: 2 }])
  const taken = [steps.decide(plain), steps.decide(plain)].map((decision) => {
    if (decision.kind === 'refuse') throw new Error(decision.detail)
    return decision.upstream
  })
  for (const upstream of taken) upstream.started()
  t.match(steps.decide(plain), {
    kind: 'refuse',
    reason: 'overloaded',
    detail: /orders is given 2 calls at once on this host, and no more \(maxConcurrent\)/,
  })
  t.equal(timesFull(), 1)
  taken[0]?.finished('ok')
  t.equal(steps.decide(plain).kind, 'forward', 'as soon as one has ended')
})

t.test('AnswerSteps sends callers elsewhere once its instance is gone', async (t) => {
  const { steps, apply } = makeSteps()
  apply([{ ...here, draining: true }])
  t.match(
    steps.decide(plain),
    { kind: 'forward' },
    'a draining one still serves the streams it has',
  )
  apply([])
  t.match(steps.decide(plain), { kind: 'refuse', reason: 'draining', service: 'orders' })
})

t.test(
  'AnswerSteps.again replaces a kept connection the service had closed, once, and nothing else',
  async (t) => {
    const { steps } = makeSteps()
    const decision = steps.decide(plain)
    if (decision.kind === 'refuse') throw new Error(decision.detail)
    const { upstream } = decision
    t.equal(upstream.takeIdle(), null)
    t.equal(steps.again(upstream, 'instance-aborted'), null, 'it was a fresh one')
    upstream.release(new FakeChannel())
    t.ok(upstream.takeIdle())
    t.equal(steps.again(upstream, 'instance-refused'), null)
    t.equal(steps.again(upstream, 'response-timeout'), null)
    t.equal(steps.again(upstream, 'instance-aborted'), upstream)
    upstream.open({ onOpen() {}, onOpenFailed() {} })
    t.equal(steps.again(upstream, 'instance-aborted'), null, 'now it was')
  },
)

t.test('AnswerSteps judges each request where rules look into them', async (t) => {
  const { steps } = makeSteps(policyOf({ services: ['orders'], deny: [{ paths: ['/admin/*'] }] }))
  const first = steps.decide(plain)
  t.match(first, { kind: 'forward' })
  t.equal(steps.decide(headFor('GET', '/a')), first, 'the same answer is the same object')
  t.match(steps.decide(headFor('GET', '/Admin/x')), {
    kind: 'refuse',
    reason: 'policy-denied',
    service: 'orders',
    detail: /^deny\[0\] \(\/p\.json:\d+\) denies this/,
    rule: { rule: 'deny[0]', file: '/p.json' },
  })
  t.match(steps.decide(headFor('GET', '/a/../admin')), { reason: 'ambiguous-request' })
  t.equal(steps.decide(plain), first)
})

t.test('AnswerSteps follows a policy that changes, request by request', async (t) => {
  const { steps, apply } = makeSteps()
  const first = steps.decide(plain)
  t.equal(steps.reconsider(true), null)
  apply([here], [policyOf({ services: ['orders'], allow: [{ from: ['web'] }] })])
  t.match(steps.reconsider(false), { reason: 'policy-denied', ref: { rule: 'default deny' } })
  t.match(steps.decide(plain), { kind: 'refuse', rule: { rule: 'default deny' } })
  apply([here], [])
  t.equal(steps.reconsider(false), null)
  t.match(steps.decide(plain), { kind: 'forward' })
  t.ok(first)
})

t.test(
  'AnswerSteps.reconsider asks for the request under way, and not for one that is over',
  async (t) => {
    const { steps, apply } = makeSteps()
    steps.decide(headFor('GET', '/stream'))
    apply([here], [policyOf({ services: ['orders'], deny: [{ paths: ['/stream'] }] })])
    const copy = makeSteps()
    copy.steps.decide(headFor('GET', '/stream'))
    copy.apply([here], [policyOf({ services: ['orders'], deny: [{ paths: ['/stream'] }] })])
    t.match(steps.reconsider(true), { ref: { rule: 'deny[0]' } })
    t.equal(copy.steps.reconsider(false), null)
  },
)

t.test('AnswerSteps lets pass what a policy in audit mode would refuse, and says so', async (t) => {
  const services = ['orders']
  const audit = policyOf({ services, policyMode: 'audit', deny: [{ paths: ['/admin'] }] })
  const { steps } = makeSteps(audit)
  t.match(steps.decide(headFor('GET', '/admin')), {
    kind: 'forward',
    permit: { audit: { ref: { rule: 'deny[0]' } } },
  })
  t.match(steps.decide(plain), { kind: 'forward', permit: { audit: null } })
})
