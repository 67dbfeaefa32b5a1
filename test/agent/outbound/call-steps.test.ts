import t from 'tap'
import { InstanceLoads } from '#agent/balance/instance-loads.ts'
import { readRequestHead, type RequestHead } from '#agent/http1/head.ts'
import { CallSteps, type CallStepsParts } from '#agent/outbound/call-steps.ts'
import type { Found } from '#agent/outbound/lookups.ts'
import { ServiceTable } from '#agent/outbound/service-table.ts'
import type { Decision, Upstream } from '#agent/relay/upstream.ts'
import type { MeshEndpoint } from '#agent/outbound/mesh-endpoint.ts'
import { must, parseServiceName } from '#shared/model/names.ts'
import type { Policy } from '#shared/model/policy.ts'
import type { Reason } from '#shared/model/reason.ts'
import { hostId, type SpiffeId } from '#shared/model/spiffe-id.ts'
import { PolicyTable } from '#shared/policy/policy-table.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { policyOf } from '#test/support/policies.ts'
import { self, snapshotOf, trustDomain, type InstanceWish } from '#test/support/snapshots.ts'

const caller = hostId(trustDomain, self)
const orders = must(parseServiceName('orders'))

function headFor(authority: string, target = '/'): RequestHead {
  const head = readRequestHead(`GET ${target} HTTP/1.1\r\nhost: ${authority}\r\n`, {
    maxBytes: 65_536,
    maxFields: 100,
  })
  if (head.kind === 'fault') throw new Error(head.problem)
  return head
}

function makeSteps(
  wishes: readonly InstanceWish[],
  settings: {
    readonly service?: typeof orders | null
    readonly source?: SpiffeId | null
    readonly rules?: readonly Policy[]
    readonly lookups?: CallStepsParts['lookups']
  } = {},
) {
  const clock = new FakeClock()
  const tallies: (readonly [string, Readonly<Record<string, string>>])[] = []
  const upstreams: MeshEndpoint[] = []
  const loads = new InstanceLoads({ shareOf: (limit) => limit })
  loads.apply(snapshotOf(wishes).local)
  const services = new ServiceTable({
    loads,
    hosts: { lifeOf: () => ({ isLost: false }) },
    onEjected() {},
    clock,
    makeUpstream: (endpoint) => {
      upstreams.push(endpoint)
      const { host, id } = endpoint.instance
      return {
        host,
        instance: id,
        mtls: true,
        takeIdle: () => null,
        open() {},
        release() {},
        started() {},
        finished() {},
        close() {},
      }
    },
  })
  const { service = orders, source = caller, rules = [] } = settings
  const policies = new PolicyTable()
  const apply = (now: readonly Policy[]): void => {
    const snapshot = snapshotOf(wishes, [], now)
    policies.apply(snapshot)
    services.apply(snapshot)
  }
  apply(rules)
  const random = { fraction: () => 0, bytes: (count: number) => Buffer.alloc(count) }
  const steps = new CallSteps(
    {
      services,
      policies,
      clock,
      random,
      counters: { tally: (...one) => void tallies.push(one) },
      ...(settings.lookups === undefined ? {} : { lookups: settings.lookups }),
    },
    { target: service, source, callerAddress: '127.0.0.1' },
  )
  return { steps, services, apply, clock, tallies, upstreams }
}

const three = ['beta', 'delta', 'gamma'].map((host) => ({ service: 'orders', host }))

function upstreamOf(decision: Decision): Upstream {
  if (decision.kind === 'refuse') throw new Error(decision.detail)
  return decision.upstream
}

t.test('CallSteps decides by the listener’s service, whatever the request names', async (t) => {
  const { steps } = makeSteps(three)
  t.match(steps.decide(headFor('files.mesh')), { kind: 'forward', service: 'orders' })
})

t.test('CallSteps decides by the name in the request where the listener has none', async (t) => {
  const { steps } = makeSteps(three, { service: null })
  t.match(steps.decide(headFor('orders.mesh')), {
    kind: 'forward',
    destination: 'spiffe://mesh.internal/service/orders',
  })
  for (const [authority, reason] of [
    ['example.com', 'not-mesh-name'],
    ['mesh', 'not-mesh-name'],
    ['files.mesh', 'unknown-service'],
    ['constructor.mesh', 'unknown-service'],
    ['__proto__.mesh', 'not-mesh-name'],
  ] as const)
    t.match(steps.decide(headFor(authority)), { kind: 'refuse', reason }, authority)
})

t.test(
  'CallSteps refuses without an identity or an instance, and says which service',
  async (t) => {
    t.match(makeSteps(three, { source: null }).steps.decideTarget(orders), {
      reason: 'no-credential',
      service: 'orders',
      destination: 'spiffe://mesh.internal/service/orders',
    })
    const { steps, services } = makeSteps(three)
    const { services: known, ...rest } = snapshotOf(three)
    const view = { ...known['orders'], name: orders, protocol: 'http', instances: [] } as const
    services.apply({ ...rest, services: { orders: view } })
    t.match(steps.decideTarget(orders), { reason: 'no-instances', service: 'orders' })
  },
)

t.test(
  'CallSteps holds a call of a service the snapshot does not have until it was looked for',
  async (t) => {
    const looked: (readonly [string, (found: Found) => void])[] = []
    const lookups: CallStepsParts['lookups'] = {
      isOnDemand: true,
      look: (name, done) => void looked.push([name, done]),
    }
    const { steps, services } = makeSteps([], { service: null, lookups })
    const failures: Reason[] = []
    const opener = { onOpen() {}, onOpenFailed: (reason: Reason) => void failures.push(reason) }
    const call = (authority: string): Upstream => {
      const decision = steps.decide(headFor(authority))
      t.match(decision, { kind: 'forward', destination: 'spiffe://mesh.internal/service/orders' })
      const upstream = upstreamOf(decision)
      t.equal(upstream.takeIdle(), null)
      upstream.open(opener)
      return upstream
    }
    const inVain = call('orders.mesh')
    looked[0]?.[1]('unknown')
    t.same(failures, ['unknown-service'])
    t.equal(steps.again(inVain, 'unknown-service'), null)

    const found = call('orders.mesh')
    services.apply(snapshotOf(three))
    looked[1]?.[1]('found')
    t.match(steps.again(found, failures[1] ?? 'ok'), { host: 'beta' })
    t.same(
      looked.map(([name]) => name),
      ['orders', 'orders'],
    )
    t.match(
      steps.decide(headFor('nobody.orders.mesh')),
      { kind: 'refuse', reason: 'unknown-service' },
      'of a service that is known all is known',
    )
  },
)

t.test('CallSteps leads a call whose service was looked for to the port it names', async (t) => {
  const lookups: CallStepsParts['lookups'] = {
    isOnDemand: true,
    look: (_name, done) => done('found'),
  }
  const wishes = [{ service: 'orders', host: 'beta', ports: { admin: 9090 } }] as const
  for (const [authority, port] of [
    ['orders.mesh', 8080],
    ['orders.mesh:9090', 9090],
  ] as const) {
    const { steps, services, upstreams } = makeSteps([], { service: null, lookups })
    const held = upstreamOf(steps.decide(headFor(authority)))
    services.apply(snapshotOf(wishes))
    const next = steps.again(held, 'unknown-service')
    const made = upstreams.at(-1)
    t.match(next, { host: 'beta' })
    t.equal(made?.instance.port, port, authority)
  }
})

t.test('CallSteps makes one decision for each instance and gives it out again', async (t) => {
  const { steps, upstreams } = makeSteps([{ service: 'orders', host: 'beta' }])
  const first = steps.decideTarget(orders)
  for (let i = 0; i < 10; i++) t.equal(steps.decideTarget(orders), first)
  t.equal(upstreams.length, 1)
})

t.test('CallSteps.again goes through all instances before it tries one twice', async (t) => {
  const { steps, tallies } = makeSteps(three)
  const first = upstreamOf(steps.decideTarget(orders))
  const second = steps.again(first, 'tunnel-failed')
  const third = steps.again(second as Upstream, 'instance-refused')
  t.equal(new Set([first, second, third].map((one) => one?.host)).size, 3)
  t.not(steps.again(third as Upstream, 'draining'), null, 'then any will do')
  t.match(tallies, [
    ['mesh_retries_total', { destination: /orders$/, reason: 'tunnel-failed' }],
    ['mesh_retries_total', { reason: 'instance-refused' }],
    ['mesh_retries_total', { reason: 'draining' }],
  ])
  const next = upstreamOf(steps.decideTarget(orders))
  t.equal(next.host, first.host, 'the next request begins afresh')
})

t.test('CallSteps.again repeats only what another instance may do better', async (t) => {
  const hopeless: readonly Reason[] = [
    'no-credential',
    'policy-denied',
    'bad-request',
    'not-http',
    'bad-response',
    'response-timeout',
    'caller-aborted',
  ]
  const { steps } = makeSteps(three)
  const first = upstreamOf(steps.decideTarget(orders))
  for (const reason of hopeless) t.equal(steps.again(first, reason), null, reason)
  const { steps: undecided } = makeSteps(three)
  t.equal(undecided.again(first, 'tunnel-failed'), null, 'nothing to repeat')
})

t.test('CallSteps.again stops when the budget of the service is spent', async (t) => {
  const { steps, services, clock } = makeSteps(three)
  const first = upstreamOf(steps.decideTarget(orders))
  let repeats = 0
  while (steps.again(first, 'tunnel-failed') !== null) repeats++
  t.equal(repeats, 10)
  services.apply(snapshotOf(three))
  t.equal(steps.again(first, 'tunnel-failed'), null, 'a new snapshot brings no new budget')
  await clock.advance(1000)
  t.not(steps.again(first, 'tunnel-failed'), null)
})

t.test('CallSteps.again sends a request that may have been executed only once more', async (t) => {
  const { steps } = makeSteps(three)
  for (const reason of ['tunnel-lost', 'instance-aborted'] as const) {
    const first = upstreamOf(steps.decideTarget(orders))
    const second = steps.again(first, reason) as Upstream
    const third = steps.again(second, 'tunnel-failed')
    t.equal(new Set([first.host, second.host, third?.host]).size, 3, 'that one had not')
    t.equal(steps.again(third as Upstream, 'tunnel-lost'), null)
  }
})

t.test('CallSteps.again finds the instances of the newest snapshot', async (t) => {
  const { steps, services } = makeSteps([{ service: 'orders', host: 'beta' }])
  const first = upstreamOf(steps.decideTarget(orders))
  services.apply(snapshotOf([{ service: 'orders', host: 'gamma' }]))
  t.equal(steps.again(first, 'tunnel-failed')?.host, 'gamma')
  services.apply(snapshotOf([]))
  t.doesNotThrow(() => steps.again(first, 'tunnel-failed'))
})

const home = [{ service: 'orders', host: self }]

t.test('CallSteps judges a call that stays on this host, and follows the policy', async (t) => {
  const services = ['orders']
  const admin = policyOf({ services, deny: [{ name: 'no-admin', paths: ['/admin/*'] }] })
  const { steps, apply } = makeSteps(home, { rules: [admin] })
  const first = steps.decide(headFor('orders.mesh'))
  t.match(first, { kind: 'forward' })
  t.equal(steps.decide(headFor('orders.mesh', '/a')), first, 'the same answer is the same object')
  t.match(steps.decide(headFor('orders.mesh', '/ADMIN/')), {
    kind: 'refuse',
    reason: 'policy-denied',
    rule: { rule: 'no-admin' },
  })
  t.match(steps.decide(headFor('orders.mesh', '/x//admin')), { reason: 'ambiguous-request' })
  steps.decide(headFor('orders.mesh', '/a'))
  t.equal(steps.reconsider(true), null)
  apply([policyOf({ services, allow: [{ from: ['web'] }] })])
  t.match(steps.reconsider(true), { ref: { rule: 'default deny' } })
  t.equal(steps.reconsider(false), null, 'an idle connection may still call others')
  t.match(steps.decide(headFor('orders.mesh')), { kind: 'refuse', reason: 'policy-denied' })
  apply([])
  t.match(steps.decide(headFor('orders.mesh')), { kind: 'forward' })
})

t.test('CallSteps judges a raw connection that stays on this host', async (t) => {
  const rules = [policyOf({ services: ['orders'], allow: [{ paths: ['/a'] }] })]
  const { steps } = makeSteps([{ service: 'orders', host: self, protocol: 'tcp' }], { rules })
  t.match(steps.decideTarget(orders), { kind: 'refuse', reason: 'policy-denied' })
})

t.test('CallSteps leaves it to the callee to judge a call that leaves this host', async (t) => {
  const rules = [policyOf({ services: ['orders'], defaultPolicy: 'deny' })]
  const { steps } = makeSteps(three, { rules })
  t.match(steps.decide(headFor('orders.mesh')), { kind: 'forward' })
  t.equal(steps.reconsider(true), null)
})

t.test('CallSteps passes over the instance of its own host that has all it may have', async (t) => {
  const here = { service: 'orders', host: self, maxConcurrent: 1 }
  const { steps, upstreams } = makeSteps([here, { service: 'orders', host: 'beta' }])
  const first = upstreamOf(steps.decideTarget(orders))
  t.equal(first.host, self)
  upstreams[0]?.attempting()
  t.equal(upstreamOf(steps.decideTarget(orders)).host, 'beta')
  upstreams[0]?.attempted('ok')
  t.equal(upstreamOf(steps.decideTarget(orders)).host, self)
})

t.test('CallSteps refuses what the only instance, on its own host, may not have', async (t) => {
  const { steps, upstreams, tallies } = makeSteps([
    { service: 'orders', host: self, maxConcurrent: 1 },
  ])
  steps.decideTarget(orders)
  upstreams[0]?.attempting()
  t.match(steps.decideTarget(orders), { kind: 'refuse', reason: 'overloaded' })
  t.same(tallies, [['mesh_limit_refusals_total', { limit: 'maxConcurrent' }]])
})

t.test('CallSteps.again passes over an instance of its own host that is full, too', async (t) => {
  const here = { service: 'orders', host: self, maxConcurrent: 1 }
  const { steps, upstreams } = makeSteps([{ service: 'orders', host: 'alpha' }, here, ...three])
  const next = (): string | undefined => {
    const first = upstreamOf(steps.decideTarget(orders))
    t.equal(first.host, 'alpha')
    return steps.again(first, 'tunnel-failed')?.host ?? undefined
  }
  t.equal(next(), self)
  upstreams[1]?.attempting()
  t.equal(next(), 'beta')
  upstreams[1]?.attempted('ok')
  t.equal(next(), self)
})
