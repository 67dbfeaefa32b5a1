/** Calls of a service that the view does not have yet, over real sockets that are read as the agent reads them. */

import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { InstanceLoads } from '#agent/balance/instance-loads.ts'
import { HeldBytes } from '#agent/http2/held-bytes.ts'
import { Lookups } from '#agent/outbound/lookups.ts'
import type { MeshEndpoint } from '#agent/outbound/mesh-endpoint.ts'
import { Outbound } from '#agent/outbound/outbound.ts'
import { ServiceTable } from '#agent/outbound/service-table.ts'
import type { Opener } from '#agent/platform.ts'
import { acceptIntoBuffers } from '#agent/relay/accepted-sockets.ts'
import { LocalDialler } from '#agent/relay/dial-local.ts'
import { RelayWatch } from '#agent/relay/relay-watch.ts'
import { systemClock as clock, systemRandom as random } from '#shared/lifecycle/clock.ts'
import { must, parseServiceName } from '#shared/model/names.ts'
import type { Outcome } from '#shared/model/outcome.ts'
import type { Protocol } from '#shared/model/records.ts'
import { hostId } from '#shared/model/spiffe-id.ts'
import { PolicyTable } from '#shared/policy/policy-table.ts'
import { RawPeer, RawServer } from '#test/support/raw-peer.ts'
import { self, snapshotOf, trustDomain } from '#test/support/snapshots.ts'
import { until } from '#test/support/until.ts'

const mail = must(parseServiceName('mail'))
const destination = 'spiffe://mesh.internal/service/mail'
const get = 'GET / HTTP/1.1\r\nHost: mail.mesh\r\n\r\n'
const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
const hello = '\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00'

/** A listener for `mail`, which the view does not have until the test says so. */
async function listen(t: Test, { onDemand }: { readonly onDemand: boolean }) {
  const service = await RawServer.listen()
  t.teardown(() => service.stop())
  const dialler = new LocalDialler({ clock, random }, { source: '127.0.0.1', timeoutMs: 30_000 })
  const services = new ServiceTable({
    loads: new InstanceLoads({ shareOf: (limit) => limit }),
    hosts: { lifeOf: () => ({ isLost: false }) },
    onEjected() {},
    clock,
    makeUpstream: ({ instance }: MeshEndpoint) => ({
      host: instance.host,
      instance: instance.id,
      mtls: true,
      takeIdle: () => null,
      open: (opener: Opener) => dialler.dial('127.0.0.1', service.port, opener),
      release() {},
      started() {},
      finished() {},
      close() {},
    }),
  })
  const asked: string[] = []
  const outcomes: Outcome[] = []
  const lookups = new Lookups({
    clock,
    ask: (name) => {
      asked.push(name)
      return true
    },
  })
  const watch = new RelayWatch({ clock })
  const held = new HeldBytes({ limitBytes: 1 << 20 })
  const outbound = new Outbound({
    services,
    lookups,
    policies: new PolicyTable(),
    outcomes: { record: (outcome) => void outcomes.push(outcome) },
    watch,
    held,
    clock,
    random,
    counters: { tally() {} },
    callerOf: () => hostId(trustDomain, self),
    refused: { refuse() {} },
  })
  const apply = (protocol: Protocol | null): void => {
    const wishes = protocol === null ? [] : [{ service: 'mail', host: 'beta', protocol }]
    const snapshot = { ...snapshotOf(wishes), onDemand }
    services.apply(snapshot)
    lookups.apply(snapshot)
    outbound.lookAgain()
  }
  apply(null)
  const server = createServer({ allowHalfOpen: true }, (socket) => outbound.acceptFor(mail, socket))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  acceptIntoBuffers(server, { highWaterMark: 65_536, backlog: 511 })
  const callers: RawPeer[] = []
  t.teardown(() => {
    lookups.stop()
    server.close()
    for (const { socket } of callers) socket.destroy()
  })
  const call = async (says = ''): Promise<RawPeer> => {
    const waiting = watch.size
    const caller = await RawPeer.connect((server.address() as AddressInfo).port)
    callers.push(caller)
    await until('it is taken', () => watch.size > waiting)
    if (says !== '') caller.write(says)
    return caller
  }
  return { call, apply, asked, lookups, outcomes, service, watch, held }
}

t.test('a raw service that is found is called as one that was known', async (t) => {
  for (const onDemand of [true, false]) {
    const { call, apply, asked, outcomes, service, held } = await listen(t, { onDemand })
    const silent = await call()
    const redis = await call('PING\r\n')
    const tls = await call(hello)
    if (!onDemand) await until('what they say was read', () => held.bytes === 16)
    t.same(asked, onDemand ? ['mail'] : [])
    t.equal(service.peers.length, 0)
    apply('tcp')
    await until('all have come', () => service.peers.length === 3)
    for (const one of service.peers) one.write('220 ready\r\n')
    for (const one of [silent, redis, tls]) await one.until('220 ready\r\n')
    silent.write('QUIT\r\n')
    redis.write('ECHO\r\n')
    for (const one of [silent, redis, tls]) one.end()
    await until('all have said goodbye', () => service.peers.every(({ ended }) => ended))
    t.same(service.peers.map(({ text }) => text).toSorted(), [
      hello,
      'PING\r\nECHO\r\n',
      'QUIT\r\n',
    ])
    t.equal(held.bytes, 0)
    for (const one of service.peers) one.end()
    await until('all are recorded', () => outcomes.length === 3)
    for (const outcome of outcomes) {
      t.match(outcome, { protocol: 'tcp', reason: 'ok', attempts: 1, service: 'mail' })
    }
  }
})

t.test('what a raw service is sent is passed on whatever it looks like', async (t) => {
  const { call, apply, service } = await listen(t, { onDemand: true })
  for (const words of [get, preface]) {
    const had = service.peers.length
    await call(words)
    apply('tcp')
    const heard = await service.peer(had)
    await heard.until(words)
    t.equal(heard.text, words)
    apply(null)
  }
})

t.test('a request to a service that is found is answered by it', async (t) => {
  const { call, apply, service, outcomes } = await listen(t, { onDemand: true })
  const early = await call(get)
  const late = await call()
  apply('http')
  late.write(get)
  for (const at of [0, 1]) {
    const peer = await service.peer(at)
    await peer.until('\r\n\r\n')
    peer.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
  }
  for (const caller of [early, late]) t.match(await caller.until('ok'), /^HTTP\/1\.1 200 OK/)
  t.match(outcomes, [{ protocol: 'http', status: 200, attempts: 1 }, { status: 200 }])
})

t.test('a worker that drains waits for a request whose service is found meanwhile', async (t) => {
  const { call, apply, service, watch } = await listen(t, { onDemand: true })
  const caller = await call(get)
  let isDrained = false
  const drained = watch.drain().then(() => (isDrained = true))
  apply('http')
  const peer = await service.peer(0)
  await peer.until('\r\n\r\n')
  t.notOk(isDrained)
  peer.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
  t.match(await caller.until('ok'), /^HTTP\/1\.1 200 OK/)
  await drained
})

t.test('a raw caller of what is not found is reset, and told nothing in HTTP', async (t) => {
  for (const [why, reason] of [
    ['unknown', 'unknown-service'],
    ['away', 'not-discovered'],
  ] as const) {
    const { call, lookups, outcomes, watch } = await listen(t, { onDemand: true })
    for (const words of ['PING\r\n', hello, preface, 'get key\r\n', '']) {
      const had = outcomes.length
      const caller = await call(words)
      lookups.missed(mail, why)
      await until('it is told', () => caller.closed || caller.text !== '')
      t.same([caller.text, caller.error], ['', 'ECONNRESET'], JSON.stringify(words))
      await until('it is recorded', () => outcomes.length > had)
      t.match(outcomes.at(-1), { protocol: 'tcp', status: 0, reason, service: 'mail', destination })
    }
    t.equal(outcomes.length, 5)
    t.equal(watch.size, 0)
  }
})

t.test('a raw caller waits a moment for a view that has its service, and no longer', async (t) => {
  const { call, outcomes } = await listen(t, { onDemand: false })
  for (const caller of [await call('PING\r\n'), await call()]) {
    await until('it is told', () => caller.closed || caller.text !== '')
    t.same([caller.text, caller.error], ['', 'ECONNRESET'])
  }
  t.match(outcomes, [{ protocol: 'tcp', reason: 'unknown-service', service: 'mail' }, {}])
})

t.test('a request to what is not found is answered in HTTP, and looked for once', async (t) => {
  const { call, lookups, outcomes, asked } = await listen(t, { onDemand: true })
  const caller = await call(get.slice(0, 2))
  lookups.missed(mail, 'unknown')
  caller.write(get.slice(2))
  t.match(await caller.until('unknown-service'), /^HTTP\/1\.1 404 Not Found\r\n/)
  t.match(outcomes, [{ protocol: 'http', status: 404, service: 'mail', destination }])
  t.same(asked, ['mail'])
  caller.write(get)
  await until('the next request has it looked for anew', () => asked.length === 2)
  lookups.missed(mail, 'away')
  await caller.until('not-discovered')

  const known = await listen(t, { onDemand: false })
  const other = await known.call(get)
  t.match(await other.until('unknown-service'), /^HTTP\/1\.1 404 Not Found\r\n/)
})

t.test('a caller that goes while its service is looked for is recorded once', async (t) => {
  const { call, lookups, outcomes, service } = await listen(t, { onDemand: true })
  const caller = await call()
  caller.socket.resetAndDestroy()
  await caller.untilClosed()
  lookups.missed(mail, 'unknown')
  await until('it is recorded', () => outcomes.length === 1)
  t.match(outcomes, [{ protocol: 'tcp', reason: 'caller-aborted', service: 'mail' }])
  t.equal(service.peers.length, 0)
})
