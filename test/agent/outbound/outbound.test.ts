import { once } from 'node:events'
import { connect, createServer, type AddressInfo, Socket } from 'node:net'
import t, { type Test } from 'tap'
import { InstanceLoads } from '#agent/balance/instance-loads.ts'
import type { MeshEndpoint } from '#agent/outbound/mesh-endpoint.ts'
import { Outbound } from '#agent/outbound/outbound.ts'
import type { RefusedCall } from '#agent/outbound/refused-callers.ts'
import { ServiceTable } from '#agent/outbound/service-table.ts'
import type { Opener } from '#agent/platform.ts'
import { RelayWatch } from '#agent/relay/relay-watch.ts'
import { systemClock as clock, systemRandom as random } from '#shared/lifecycle/clock.ts'
import { must, parseServiceName } from '#shared/model/names.ts'
import type { Outcome } from '#shared/model/outcome.ts'
import type { Reason } from '#shared/model/reason.ts'
import { hostId, serviceId } from '#shared/model/spiffe-id.ts'
import { FakeChannel } from '#test/support/fake-channel.ts'
import { PolicyTable } from '#shared/policy/policy-table.ts'
import { self, snapshotOf, trustDomain } from '#test/support/snapshots.ts'
import { until } from '#test/support/until.ts'

const echo = must(parseServiceName('echo'))
const hosts = ['beta', 'delta', 'gamma'].map((host) => ({
  service: 'echo',
  host,
  protocol: 'tcp' as const,
}))

/** A listener for the raw service `echo`, whose instances answer as the test says. */
async function listen(t: Test, answer: (host: string, opener: Opener) => void) {
  const outcomes: Outcome[] = []
  const results: string[] = []
  const refused: RefusedCall[] = []
  const services = new ServiceTable({
    loads: new InstanceLoads({ shareOf: (limit) => limit }),
    hosts: { lifeOf: () => ({ isLost: false }) },
    onEjected() {},
    clock,
    makeUpstream: (endpoint: MeshEndpoint) => ({
      host: endpoint.instance.host,
      instance: endpoint.instance.id,
      mtls: true,
      takeIdle: () => null,
      open: (opener: Opener) => setImmediate(answer, endpoint.instance.host, opener),
      release() {},
      started: () => void results.push('started'),
      finished: (result: string) => void results.push(result),
      close() {},
    }),
  })
  services.apply(snapshotOf(hosts))
  const outbound = new Outbound({
    services,
    policies: new PolicyTable(),
    outcomes: { record: (outcome) => void outcomes.push(outcome) },
    watch: new RelayWatch({ clock }),
    clock,
    random,
    counters: { tally() {} },
    callerOf: () => hostId(trustDomain, self),
    refused: { refuse: (_, call) => void refused.push(call) },
  })
  const server = createServer({ allowHalfOpen: true }, (socket) => outbound.acceptFor(echo, socket))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => void server.close())
  const dial = (): Socket => {
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
    t.teardown(() => socket.destroy())
    return socket.on('error', () => {})
  }
  return { dial, outcomes, results, outbound, refused }
}

/** Waits for the end of a connection; answers whether it was a reset. */
function closed(socket: Socket): Promise<boolean> {
  return new Promise((resolve) => {
    socket.once('close', resolve)
  })
}

const refusing =
  (reason: Reason) =>
  (_: string, opener: Opener): void =>
    opener.onOpenFailed(reason, 'no')

t.test('a raw connection goes to another instance when one cannot be reached', async (t) => {
  const channel = new FakeChannel()
  const tried: string[] = []
  const { dial, outcomes, results } = await listen(t, (host, opener) => {
    tried.push(host)
    if (tried.length < 3) opener.onOpenFailed('tunnel-failed', 'no')
    else opener.onOpen(channel)
  })
  dial().end('hello')
  await until('the instance was told', () => channel.heard === 'hello' && channel.ended)
  t.equal(new Set(tried).size, 3)
  channel.saysEnd()
  channel.close(null)
  await until('it is recorded', () => outcomes.length === 1)
  t.match(outcomes, [{ protocol: 'tcp', reason: 'ok', attempts: 3, host: tried[2], mtls: true }])
  t.same(results, ['started', 'connect-failed', 'started', 'connect-failed', 'started', 'ok'])
})

t.test(
  'a raw connection that reaches nobody is reset, with its reason recorded once',
  async (t) => {
    const { dial, outcomes, results } = await listen(t, refusing('instance-refused'))
    t.ok(await closed(dial()), 'a reset, not an end that looks like an answer')
    t.match(outcomes, [{ reason: 'instance-refused', attempts: 3, bytesFromCaller: 0 }])
    t.equal(outcomes.length, 1)
    t.equal(results.filter((one) => one === 'connect-failed').length, 3)
  },
)

t.test('a refusal for this side’s sake says nothing against the instance', async (t) => {
  const { dial, outcomes, results } = await listen(t, refusing('no-credential'))
  await closed(dial())
  t.same(results, ['started', 'abandoned'])
  t.match(outcomes, [{ reason: 'no-credential', attempts: 1 }])
})

t.test('a caller that resets while its instance is dialled leaves nothing open', async (t) => {
  const openers: Opener[] = []
  const { dial, outcomes, results } = await listen(t, (_, opener) => void openers.push(opener))
  const caller = dial()
  await until('it is dialled', () => openers.length === 1)
  caller.resetAndDestroy()
  await closed(caller)
  const channel = new FakeChannel()
  openers[0]?.onOpen(channel)
  await until('it is over', () => outcomes.length === 1)
  t.ok(channel.aborted)
  t.match(outcomes, [{ reason: 'caller-aborted' }])
  t.same(results, ['started', 'abandoned'])
})

t.test('a raw service that resets connections before it says a byte is blamed', async (t) => {
  const lost = { code: 'ECONNRESET', message: '' }
  const endings: readonly [string, string, (channel: FakeChannel, caller: Socket) => void][] = [
    ['reset', 'tunnel-lost', (channel) => channel.close(lost)],
    [
      'abandoned',
      'tunnel-lost',
      (channel) => {
        channel.says('hello')
        channel.close(lost)
      },
    ],
    ['abandoned', 'caller-aborted', (_, caller) => caller.resetAndDestroy()],
    [
      'ok',
      'ok',
      (channel, caller) => {
        channel.says('hello')
        channel.saysEnd()
        caller.end()
        channel.close(null)
      },
    ],
  ]
  for (const [result, reason, end] of endings) {
    const channel = new FakeChannel()
    const { dial, outcomes, results } = await listen(t, (_, opener) => opener.onOpen(channel))
    const caller = dial()
    caller.resume().write('hi')
    await until('the instance was told', () => channel.heard === 'hi')
    end(channel, caller)
    await until('it is recorded', () => outcomes.length === 1)
    t.match(outcomes, [{ reason }])
    t.same(results, ['started', result], reason)
  }
})

t.test('Outbound refuses in the words of the service that was asked for', async (t) => {
  const { outbound, refused } = await listen(t, refusing('tunnel-failed'))
  const socket = new Socket()
  outbound.refuseFor(echo, socket)
  outbound.refuseFor(null, socket)
  const source = hostId(trustDomain, self)
  t.same(refused, [
    { protocol: 'tcp', service: echo, destination: serviceId(trustDomain, echo), source },
    { protocol: 'http', service: null, destination: null, source },
  ])
})
