import { once } from 'node:events'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { InstanceLoads } from '#agent/balance/instance-loads.ts'
import { Inbound } from '#agent/inbound/inbound.ts'
import { LocalInstances } from '#agent/inbound/local-instances.ts'
import { LocalDialler } from '#agent/relay/dial-local.ts'
import { RelayWatch } from '#agent/relay/relay-watch.ts'
import { ChannelPool } from '#agent/tunnel/channel-pool.ts'
import type { IncomingCall } from '#agent/tunnel/tunnel-listener.ts'
import { systemClock as clock, systemRandom as random } from '#shared/lifecycle/clock.ts'
import { must, parseHostName, parseServiceName } from '#shared/model/names.ts'
import type { Outcome } from '#shared/model/outcome.ts'
import type { Policy } from '#shared/model/policy.ts'
import type { Reason } from '#shared/model/reason.ts'
import { hostId } from '#shared/model/spiffe-id.ts'
import { PolicyTable } from '#shared/policy/policy-table.ts'
import { FakeChannel } from '#test/support/fake-channel.ts'
import { policyOf } from '#test/support/policies.ts'
import { self, snapshotOf, trustDomain, type InstanceWish } from '#test/support/snapshots.ts'
import { until } from '#test/support/until.ts'

const peer = hostId(trustDomain, must(parseHostName('alice')))
const orders = must(parseServiceName('orders'))

/** A CONNECT stream that remembers how it was answered. */
class FakeStream extends FakeChannel {
  answer = ''
  detail = ''
  accept(): void {
    this.answer = 'accepted'
  }
  refuse(status: number, reason: Reason, detail: string): void {
    this.answer = `${status} ${reason}`
    this.detail = detail
  }
}

/** A service that counts its connections and says hello. */
async function serve(t: Test): Promise<{ readonly server: Server; readonly port: number }> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket.on('error', () => {}))
    socket.once('data', () => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi'))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return { server, port: (server.address() as AddressInfo).port }
}

function makeInbound(t: Test, wishes: readonly InstanceWish[]) {
  const outcomes: Outcome[] = []
  const policies = new PolicyTable()
  const watch = new RelayWatch({ clock })
  const loads = new InstanceLoads({ shareOf: (limit) => limit })
  loads.apply(snapshotOf(wishes).local)
  const tallies: string[] = []
  const instances = new LocalInstances({
    loads,
    local: new LocalDialler({ clock, random }, { source: '127.0.0.6', timeoutMs: 30_000 }),
    makePool: () => new ChannelPool({ clock }),
    policies,
  })
  const apply = (now: readonly Policy[]): void => {
    const snapshot = snapshotOf(wishes, [], now)
    const isChanged = policies.apply(snapshot)
    instances.apply(snapshot)
    if (isChanged) watch.reconsider()
  }
  apply([])
  const inbound = new Inbound({
    instances,
    outcomes: { record: (outcome) => void outcomes.push(outcome) },
    watch,
    clock,
    random,
    counters: { tally: (metric, { limit }) => void tallies.push(`${metric} ${limit}`) },
  })
  const call = (authority: string, before: (stream: FakeStream) => void = () => {}): FakeStream => {
    const stream = new FakeStream()
    const incoming = { peer, service: orders, authority, stream }
    inbound.accept(incoming as unknown as IncomingCall)
    before(stream)
    return stream
  }
  t.teardown(() => instances.apply(snapshotOf([])))
  return { call, outcomes, apply, tallies }
}

t.test(
  'Inbound reaches the instance that CONNECT names, and only then grants the stream',
  async (t) => {
    const { port } = await serve(t)
    const { call, outcomes } = makeInbound(t, [{ service: 'orders', host: self, port }])
    const stream = call(`1.orders.mesh:${port}`)
    t.equal(stream.answer, '', 'not before the instance has answered')
    await until('it is granted', () => stream.answer === 'accepted')
    stream.says('GET / HTTP/1.1\r\nhost: orders.mesh\r\n\r\n')
    await until('it is answered', () => stream.heard.endsWith('hi'))
    t.match(outcomes, [
      {
        direction: 'inbound',
        source: peer,
        service: 'orders',
        instance: '1',
        status: 200,
        mtls: true,
      },
    ])
    const next = call(`1.orders.mesh:${port}`)
    t.equal(next.answer, 'accepted', 'at once, while a connection to it is kept alive')
    stream.close(null)
    next.close(null)
  },
)

t.test('Inbound repeats a request on the loss of a kept connection, once', async (t) => {
  let executed = 0
  let isDown = false
  let isDying = false
  const server = createServer((socket) => {
    socket.on('error', () => {})
    // As the kernel does with what waits at a listener whose process has been killed.
    if (isDying) {
      socket.resetAndDestroy()
      return
    }
    socket.on('data', (bytes) => {
      if (bytes.includes('/warm')) {
        socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi')
        return
      }
      executed++
      // Nobody listens any more when the connection goes.
      if (isDown) server.close()
      isDying = bytes.includes('/killed')
      socket.destroy()
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const { call, outcomes } = makeInbound(t, [{ service: 'orders', host: self, port }])
  const stream = call(`1.orders.mesh:${port}`)
  await until('it is granted', () => stream.answer === 'accepted')
  /** Answers how often the service did it, and what the agent of the caller was told. */
  const ask = async (method: string, path = '/') => {
    const [had, before] = [outcomes.length, executed]
    stream.says(`${method} ${path} HTTP/1.1\r\nhost: orders.mesh\r\n\r\n`)
    await until('it is answered', () => outcomes.length > had)
    return [executed - before, outcomes.at(-1)?.status, outcomes.at(-1)?.reason]
  }
  t.same(await ask('GET', '/warm'), [0, 200, 'ok'])
  for (const method of ['GET', 'PUT', 'DELETE']) {
    t.same(await ask(method), [2, 502, 'instance-aborted-twice'], `${method}, kept`)
    t.same(await ask(method), [1, 502, 'instance-aborted'], `${method}, fresh`)
    t.same(await ask('GET', '/warm'), [0, 200, 'ok'])
  }
  t.same(await ask('POST'), [1, 502, 'instance-aborted'], 'POST, kept')
  t.same(await ask('POST'), [1, 502, 'instance-aborted'], 'POST, fresh')
  t.same(await ask('GET', '/warm'), [0, 200, 'ok'])
  t.same(
    await ask('GET', '/killed'),
    [1, 502, 'instance-aborted'],
    'what was reset at a listener was not carried out there',
  )
  isDying = false
  t.same(await ask('GET', '/warm'), [0, 200, 'ok'])
  isDown = true
  t.same(
    await ask('GET'),
    [1, 502, 'instance-aborted'],
    'that it was not reached again is no matter',
  )
  t.same(await ask('GET'), [0, 503, 'instance-refused'], 'it never got this one')
  stream.close(null)
})

t.test('Inbound refuses to reach another service than the certificate was for', async (t) => {
  const { call, outcomes } = makeInbound(t, [
    { service: 'orders', host: self },
    { service: 'files', host: self },
  ])
  for (const authority of [
    '1.files.mesh:8080',
    'orders.mesh:8080',
    '1.orders.mesh',
    '1.orders.mesh.evil:80',
    '1.1.orders.mesh:80',
    '127.0.0.1:22',
    '',
  ])
    t.equal(call(authority).answer, '400 bad-request', authority)
  t.equal(outcomes.length, 7, 'each is recorded')
  t.match(outcomes[0], { source: peer, service: 'orders', reason: 'bad-request' })
})

t.test('Inbound gives a raw service no more connections at once than it may have', async (t) => {
  const { port } = await serve(t)
  const { call, outcomes, tallies } = makeInbound(t, [
    { service: 'orders', host: self, port, protocol: 'tcp', maxConcurrent: 1 },
  ])
  const first = call(`1.orders.mesh:${port}`)
  t.equal(call(`1.orders.mesh:${port}`).answer, '503 overloaded', 'even while the first is dialled')
  t.same(tallies, ['mesh_limit_refusals_total maxConcurrent'])
  t.match(outcomes, [{ reason: 'overloaded', service: 'orders' }])
  await until('the first is granted', () => first.answer === 'accepted')
  t.equal(call(`1.orders.mesh:${port}`).answer, '503 overloaded')
  first.close(null)
  await until('it is over', () => outcomes.length === 3)
  const next = call(`1.orders.mesh:${port}`)
  await until('the next is granted', () => next.answer === 'accepted')
  next.close(null)
})

t.test('Inbound sends callers elsewhere from an instance that drains or is not here', async (t) => {
  const { call, outcomes } = makeInbound(t, [{ service: 'orders', host: self, draining: true }])
  t.equal(call('1.orders.mesh:8080').answer, '503 draining')
  t.equal(call('2.orders.mesh:8080').answer, '503 draining')
  t.match(outcomes, [
    { reason: 'draining', instance: '1' },
    { reason: 'draining', instance: null },
  ])
})

t.test('Inbound tells when the instance does not take the connection', async (t) => {
  const { server, port } = await serve(t)
  server.close()
  await once(server, 'close')
  const { call, outcomes } = makeInbound(t, [{ service: 'orders', host: self, port }])
  const stream = call(`1.orders.mesh:${port}`)
  await until('it is refused', () => stream.answer !== '')
  t.equal(stream.answer, '503 instance-refused')
  t.match(outcomes, [{ reason: 'instance-refused', host: self, instance: '1' }])
})

t.test('Inbound ends a stream that speaks before it is granted', async (t) => {
  const { port } = await serve(t)
  const { call, outcomes } = makeInbound(t, [{ service: 'orders', host: self, port }])
  const stream = call(`1.orders.mesh:${port}`, (early) => early.says('GET / HTTP/1.1\r\n'))
  t.ok(stream.aborted)
  stream.close(null)
  t.match(outcomes, { length: 1, 0: { reason: 'bad-request', source: peer, instance: '1' } })
  const other = call(`1.orders.mesh:${port}`)
  await until('a later one is granted', () => other.answer === 'accepted')
  t.equal(stream.answer, '', 'the early one never is')
  other.close(null)
})

t.test('Inbound records a caller that is gone before the instance has answered', async (t) => {
  const { port } = await serve(t)
  const { call, outcomes } = makeInbound(t, [
    { service: 'orders', host: self, port, protocol: 'tcp', maxConcurrent: 1 },
  ])
  call(`1.orders.mesh:${port}`, (stream) => stream.close(null))
  t.match(outcomes, { length: 1, 0: { reason: 'caller-aborted', instance: '1' } })
  const next = call(`1.orders.mesh:${port}`)
  await until('its place is free', () => next.answer === 'accepted')
  t.equal(outcomes.length, 1)
  next.close(null)
})

t.test('Inbound carries raw bytes both ways where the manifest says tcp', async (t) => {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.write('ready')
    socket.on('end', () => socket.end('bye'))
    socket.resume()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => void server.close())
  const { port } = server.address() as AddressInfo
  const { call, outcomes } = makeInbound(t, [
    { service: 'orders', host: self, port, protocol: 'tcp' },
  ])
  const stream = call(`1.orders.mesh:${port}`)
  await until('the service has spoken first', () => stream.heard === 'ready')
  stream.says('hello')
  stream.saysEnd()
  await until('it has said goodbye', () => stream.ended)
  t.equal(stream.heard, 'readybye')
  stream.close(null)
  await until('it is recorded', () => outcomes.length === 1)
  t.match(outcomes, [{ protocol: 'tcp', reason: 'ok', bytesFromCaller: 5, bytesToCaller: 8 }])
})

const onlyWeb = policyOf({ services: ['orders'], allow: [{ from: ['web'] }] })

t.test('Inbound refuses the stream of a caller that no rule allows, naming the rule', async (t) => {
  const { port } = await serve(t)
  const { call, outcomes, apply } = makeInbound(t, [{ service: 'orders', host: self, port }])
  apply([onlyWeb])
  const stream = call(`1.orders.mesh:${port}`)
  t.equal(stream.answer, '403 policy-denied')
  t.match(stream.detail, /^default deny \(\/p\.json:\d+\): no rule allows this to spiffe:/)
  t.match(outcomes, [{ reason: 'policy-denied', rule: { rule: 'default deny', file: '/p.json' } }])
})

t.test(
  'Inbound asks policy again for a stream whose instance is still being reached',
  async (t) => {
    const { port } = await serve(t)
    const { call, outcomes, apply } = makeInbound(t, [{ service: 'orders', host: self, port }])
    const stream = call(`1.orders.mesh:${port}`)
    apply([onlyWeb])
    await until('it is answered', () => stream.answer !== '')
    t.equal(stream.answer, '403 policy-denied')
    t.match(outcomes, [{ reason: 'policy-denied', rule: { rule: 'default deny' } }])
  },
)

t.test('Inbound ends what a changed policy no longer allows, and nothing else', async (t) => {
  const server = createServer((socket) => void socket.on('error', () => {}).resume())
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => void server.close())
  const { port } = server.address() as AddressInfo
  const { call, outcomes, apply } = makeInbound(t, [{ service: 'orders', host: self, port }])
  const ask = async (path: string): Promise<FakeStream> => {
    const stream = call(`1.orders.mesh:${port}`)
    await until('it is granted', () => stream.answer === 'accepted')
    if (path !== '') stream.says(`GET ${path} HTTP/1.1\r\nhost: orders.mesh\r\n\r\n`)
    return stream
  }
  const [idle, slow, other] = [await ask(''), await ask('/slow'), await ask('/other')]
  const services = ['orders']
  apply([policyOf({ services, deny: [{ name: 'no-slow', paths: ['/slow'] }] })])
  t.match(slow.heard, /^HTTP\/1.1 403 .*\r\nx-mesh-reason: policy-denied\r\n/s)
  t.match(slow.heard, 'no-slow (/p.json:')
  t.match(outcomes, [{ reason: 'policy-denied', status: 403, rule: { rule: 'no-slow' } }])
  t.equal(idle.heard + other.heard, '')
  t.notOk(idle.ended || other.ended)
  apply([onlyWeb])
  t.ok(idle.ended, 'an idle connection says goodbye')
  t.match(other.heard, 'HTTP/1.1 403')
  t.equal(outcomes.length, 2)
  for (const stream of [idle, slow, other]) stream.close(null)
})

t.test('Inbound cuts a raw connection that a changed policy no longer allows', async (t) => {
  const server = createServer((socket) => void socket.on('error', () => {}).write('ready'))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => void server.close())
  const { port } = server.address() as AddressInfo
  const { call, outcomes, apply } = makeInbound(t, [
    { service: 'orders', host: self, port, protocol: 'tcp' },
  ])
  const stream = call(`1.orders.mesh:${port}`)
  await until('it is open', () => stream.heard === 'ready')
  apply([policyOf({ services: ['orders'], deny: [{ from: ['evil'] }] })])
  t.notOk(stream.aborted)
  apply([onlyWeb])
  t.ok(stream.aborted)
  t.match(outcomes, [
    { protocol: 'tcp', reason: 'policy-denied', rule: { rule: 'default deny' }, bytesToCaller: 5 },
  ])
})

t.test('Inbound reaches a named port by its name, wherever it is now, and no other', async (t) => {
  const [main, admin] = [await serve(t), await serve(t)]
  const { call, apply } = makeInbound(t, [
    { service: 'orders', host: self, port: main.port, ports: { admin: [admin.port, 'tcp'] } },
  ])
  let connections = 0
  admin.server.on('connection', () => connections++)
  const stream = call('1.admin.orders.mesh:9')
  await until('it is granted', () => stream.answer === 'accepted')
  await until('the service has taken it', () => connections > 0)
  t.equal(connections, 1, 'the number of a moment ago does not matter')
  t.equal(call('1.other.orders.mesh:9').answer, '503 draining')
  apply([policyOf({ services: ['orders'], deny: [{ from: ['*'], ports: [admin.port] }] })])
  t.equal(call('1.admin.orders.mesh:9').answer, '403 policy-denied', 'its own number counts')
  const allowed = call('1.orders.mesh:9')
  await until('the main port is not meant', () => allowed.answer === 'accepted')
  stream.close(null)
  allowed.close(null)
})
