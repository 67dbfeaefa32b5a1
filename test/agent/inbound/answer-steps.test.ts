import t from 'tap'
import { AnswerSteps } from '#agent/inbound/answer-steps.ts'
import { LocalInstances } from '#agent/inbound/local-instances.ts'
import { ChannelPool } from '#agent/tunnel/channel-pool.ts'
import { must, parseHostName } from '#shared/model/names.ts'
import { hostId } from '#shared/model/spiffe-id.ts'
import { authorise } from '#shared/policy/authorise.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { self, snapshotOf, trustDomain } from '#test/support/snapshots.ts'

const peer = hostId(trustDomain, must(parseHostName('alice')))
const here = { service: 'orders', host: self, port: 8080 }

function makeSteps() {
  const clock = new FakeClock()
  const dialled: number[] = []
  const instances = new LocalInstances({
    local: { dial: (_, port) => void dialled.push(port) },
    makePool: () => new ChannelPool({ clock }),
  })
  instances.apply(snapshotOf([here]))
  const instance = instances.find('orders', '1')
  if (instance === null) throw new Error('no orders')
  const verdict = authorise(peer, instance.id)
  if (verdict.kind === 'denied') throw new Error(verdict.detail)
  const steps = new AnswerSteps({ instance, source: peer, permit: verdict.permit })
  return { steps, instances, dialled }
}

t.test('AnswerSteps gives one decision for every request while nothing changes', async (t) => {
  const { steps, instances } = makeSteps()
  const first = steps.decide()
  t.match(first, {
    kind: 'forward',
    service: 'orders',
    destination: 'spiffe://mesh.internal/service/orders',
    upstream: { host: self, instance: '1' },
  })
  instances.apply(snapshotOf([here, { service: 'files', host: self }]))
  t.equal(steps.decide(), first)
})

t.test('AnswerSteps follows its instance to another port, request by request', async (t) => {
  const { steps, instances, dialled } = makeSteps()
  steps.decide()
  instances.apply(snapshotOf([{ ...here, port: 9090 }]))
  const decision = steps.decide()
  if (decision.kind === 'forward') decision.upstream.open({ onOpen() {}, onOpenFailed() {} })
  t.same(dialled, [9090])
})

t.test('AnswerSteps sends callers elsewhere once its instance is gone', async (t) => {
  const { steps, instances } = makeSteps()
  instances.apply(snapshotOf([{ ...here, draining: true }]))
  t.match(steps.decide(), { kind: 'forward' }, 'a draining one still serves the streams it has')
  instances.apply(snapshotOf([]))
  t.match(steps.decide(), { kind: 'refuse', reason: 'draining', service: 'orders' })
})

t.test(
  'AnswerSteps.again replaces a connection the service had closed, and nothing else',
  async (t) => {
    const { steps } = makeSteps()
    const decision = steps.decide()
    if (decision.kind === 'refuse') return
    t.equal(steps.again(decision.upstream, 'instance-aborted'), decision.upstream)
    t.equal(steps.again(decision.upstream, 'instance-refused'), null)
    t.equal(steps.again(decision.upstream, 'response-timeout'), null)
  },
)
