/** Holds the mTLS port to its word: who may go on to which server, and who may not at all. */

import { connect as connectTcp } from 'node:net'
import { connect, createSecureContext } from 'node:tls'
import type { ConnectionOptions, TLSSocket } from 'node:tls'
import t from 'tap'
import type { Clock } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import { systemClock as clock } from '#shared/lifecycle/clock.ts'
import { ControllerClient } from '#shared/rpc/controller-client.ts'
import { makeTestCa } from '#test/support/certs.ts'
import type { LeafSettings, TestLeaf } from '#test/support/certs.ts'
import { startTestServer } from '#test/support/controller-server.ts'
import { until } from '#test/support/until.ts'
import type { TestServer } from '#test/support/controller-server.ts'

const ca = await makeTestCa()
const foreign = await makeTestCa()
const hostId = 'spiffe://mesh.internal/host/h1'

function clientWith(server: TestServer, leaf: TestLeaf | null): ControllerClient {
  return new ControllerClient(
    {
      clock,
      credential: { ...leaf, bundlePem: ca.bundlePem },
      expected: { kind: 'controller', trustDomain: ca.trustDomain },
    },
    { address: server.address, deadlineMs: 30_000 },
  )
}

/** The code a call ends with, or `ok`. */
async function outcome(call: Promise<unknown>): Promise<string> {
  try {
    await call
    return 'ok'
  } catch (error) {
    return error instanceof MeshError ? error.code : String(error)
  }
}

const enrolment = { token: '', csr: Buffer.alloc(0), host: '' }

t.test('a handler learns its caller from the connection', async (t) => {
  const server = await startTestServer(ca)
  t.teardown(() => server.stop())
  for (const id of [hostId, 'spiffe://mesh.internal/operator/admin']) {
    const client = clientWith(server, await ca.issue({ id }))
    await client.call('Certificates', 'DescribeMesh', {})
    t.equal(server.callers.at(-1)?.id, id)
    client.close()
  }
})

t.test(
  'callers without a certificate reach enrolment and nothing else, others never reach it',
  async (t) => {
    const server = await startTestServer(ca)
    t.teardown(() => server.stop())
    const nobody = clientWith(server, null)
    const host = clientWith(server, await ca.issue({ id: hostId }))
    t.equal(await outcome(nobody.call('Enrolment', 'Enrol', enrolment)), 'ok')
    t.equal(server.callers.at(-1)?.id, null)
    const refused = 'controller-lacks-method'
    t.equal(await outcome(nobody.call('Certificates', 'DescribeMesh', {})), refused)
    t.equal(await outcome(nobody.call('Operations', 'ListHosts', {})), refused)
    t.equal(await outcome(host.call('Enrolment', 'Enrol', enrolment)), refused)
    nobody.close()
    host.close()
  },
)

t.test('a port without anonymous callers cuts them off', async (t) => {
  const server = await startTestServer(ca, {}, { anonymous: false })
  t.teardown(() => server.stop())
  const nobody = clientWith(server, null)
  t.equal(await outcome(nobody.call('Certificates', 'DescribeMesh', {})), 'controller-unavailable')
  t.match(server.lines, [{ msg: 'a peer was refused', why: 'it presented no certificate' }])
  nobody.close()
})

const wrongPeers: readonly (readonly [string, typeof ca, Partial<LeafSettings>])[] = [
  ['another CA', foreign, {}],
  ['a self-signed certificate', ca, { selfSigned: true }],
  ['an ended certificate', ca, { notAfterInMs: -1000 }],
  ['a certificate not yet valid', ca, { notBeforeInMs: 60_000 }],
  ['another trust domain', ca, { id: 'spiffe://other.internal/host/h1' }],
  ['an id in upper case', ca, { id: 'spiffe://mesh.internal/host/H1' }],
  ['no SPIFFE id', ca, { san: false }],
  ['CA:true', ca, { ca: true }],
  ['no client purpose', ca, { extendedKeyUsage: ['1.3.6.1.5.5.7.3.1'] }],
  ['no extended key usage', ca, { extendedKeyUsage: null }],
  ['no basic constraints', ca, { ca: null }],
]

t.test('a peer with a wrong certificate reaches neither server', async (t) => {
  const server = await startTestServer(ca)
  t.teardown(() => server.stop())
  for (const [what, issuer, settings] of wrongPeers) {
    const client = clientWith(server, await issuer.issue({ id: hostId, ...settings }))
    const calls = [
      client.call('Certificates', 'DescribeMesh', {}),
      client.call('Enrolment', 'Enrol', enrolment),
    ]
    t.same(
      await Promise.all(calls.map(outcome)),
      ['controller-unavailable', 'controller-unavailable'],
      what,
    )
    client.close()
  }
  t.equal(server.callers.length, 0)
  t.ok(server.lines.length >= wrongPeers.length, 'every refusal left a line')
})

t.test('a wrong server is refused by the client, whatever it is', async (t) => {
  const wrongServers: readonly (readonly [string, typeof ca, Partial<LeafSettings>, RegExp])[] = [
    ['another CA', foreign, {}, /signature failure|issuer|self-signed/],
    ['a host', ca, { id: hostId }, /not a controller/],
    ['a service', ca, { id: 'spiffe://mesh.internal/service/c1' }, /not a controller/],
    ['an operator', ca, { id: 'spiffe://mesh.internal/operator/c1' }, /not a controller/],
    ['another domain', ca, { id: 'spiffe://other.internal/controller/c1' }, /outside/],
    ['an ended certificate', ca, { notAfterInMs: -1000 }, /expired/],
    ['no SPIFFE id', ca, { san: false }, /alternative name/],
    ['a CA', ca, { ca: true }, /CA/],
  ]
  const host = await ca.issue({ id: hostId })
  for (const [what, issuer, leaf, problem] of wrongServers) {
    const server = await startTestServer(issuer, leaf, { trustDomain: ca.trustDomain })
    const client = clientWith(server, host)
    await t.rejects(
      client.call('Certificates', 'DescribeMesh', {}),
      { code: 'controller-unavailable', message: problem },
      what,
    )
    t.equal(server.callers.length, 0, what)
    client.close()
    await server.stop()
  }
})

t.test('a client may demand one exact identity', async (t) => {
  const server = await startTestServer(ca, { id: 'spiffe://mesh.internal/controller/c1' })
  t.teardown(() => server.stop())
  const host = await ca.issue({ id: hostId })
  for (const [name, code] of [
    ['c1', 'ok'],
    ['c2', 'controller-unavailable'],
  ] as const) {
    const { id } = await ca.issue({ id: `spiffe://mesh.internal/controller/${name}` })
    const client = new ControllerClient(
      {
        clock,
        credential: { ...host, bundlePem: ca.bundlePem },
        expected: { kind: 'exactly', id, trustDomain: ca.trustDomain },
      },
      { address: server.address },
    )
    t.equal(await outcome(client.call('Certificates', 'DescribeMesh', {})), code)
    client.close()
  }
})

/** A bare TLS connection to the port; the tests look at TLS itself. */
function dial(
  server: TestServer,
  leaf: TestLeaf | null,
  options: ConnectionOptions = {},
): TLSSocket {
  const context = createSecureContext({
    ca: ca.bundlePem,
    ...(options.maxVersion === undefined ? {} : { maxVersion: options.maxVersion }),
    ...(leaf === null ? {} : { cert: leaf.chainPem, key: leaf.keyPem }),
  })
  return connect({
    host: '127.0.0.1',
    port: server.port,
    secureContext: context,
    ALPNProtocols: ['h2'],
    checkServerIdentity: () => undefined,
    ...options,
  })
}

/** How a connection ended: what the handshake agreed on, or `closed`. */
function ending(socket: TLSSocket): Promise<string> {
  return new Promise((resolve) => {
    socket.on('error', () => {})
    socket.resume()
    socket.on('close', () => resolve('closed'))
    socket.on('data', () => resolve(`open ${socket.getProtocol()}`))
  })
}

t.test('the port speaks TLS 1.3 and HTTP/2 only', async (t) => {
  const server = await startTestServer(ca)
  t.teardown(() => server.stop())
  const leaf = await ca.issue({ id: hostId })
  const end = async (options: ConnectionOptions): Promise<string> => {
    const socket = dial(server, leaf, options)
    const how = await ending(socket)
    socket.destroy()
    return how
  }
  t.equal(await end({}), 'open TLSv1.3')
  t.equal(await end({ maxVersion: 'TLSv1.2' }), 'closed')
  t.equal(await end({ ALPNProtocols: ['http/1.1'] }), 'closed')
  t.equal(await end({ ALPNProtocols: [] }), 'closed')
})

t.test('no session is ever resumed', async (t) => {
  const server = await startTestServer(ca)
  t.teardown(() => server.stop())
  const leaf = await ca.issue({ id: hostId })
  const first = dial(server, leaf)
  let session: Buffer | undefined
  first.on('session', (ticket: Buffer) => (session = ticket))
  await ending(first)
  session ??= first.getSession()
  const second = dial(server, leaf, session === undefined ? {} : { session })
  await ending(second)
  t.equal(second.isSessionReused(), false)
  first.destroy()
  second.destroy()
})

t.test('a handshake that does not move is cut', async (t) => {
  const server = await startTestServer(ca, {}, { handshakeTimeoutMs: 50 })
  t.teardown(() => server.stop())
  const socket = connectTcp(server.port, '127.0.0.1')
  socket.on('error', () => {})
  socket.resume()
  await new Promise((resolve) => {
    socket.on('close', resolve)
  })
})

t.test('connections without a certificate are few', async (t) => {
  const server = await startTestServer(ca, {}, { maxAnonymous: 2 })
  t.teardown(() => server.stop())
  const sockets = [dial(server, null), dial(server, null)]
  for (const socket of sockets) t.equal(await ending(socket), 'open TLSv1.3')
  t.equal(await ending(dial(server, null)), 'closed')
  t.match(server.lines.at(-1), { why: /too many/ })
  const known = dial(server, await ca.issue({ id: hostId }))
  t.equal(await ending(known), 'open TLSv1.3')
  for (const socket of [...sockets, known]) socket.destroy()
})

t.test('a connection ends with the certificate it began with', async (t) => {
  let sweep = (): void => {}
  let now = Date.now()
  const turned: Clock = {
    ...clock,
    now: () => now,
    every(_ms, run) {
      sweep = run
      return { stop() {} }
    },
  }
  const server = await startTestServer(ca, {}, {}, turned)
  t.teardown(() => server.stop())
  const leaf = await ca.issue({ id: hostId, notAfterInMs: 60_000 })
  const socket = dial(server, leaf)
  const client = clientWith(server, leaf)
  t.equal(await ending(socket), 'open TLSv1.3')
  await client.call('Certificates', 'DescribeMesh', {})
  const closed = new Promise((resolve) => {
    socket.on('close', resolve)
  })
  now = leaf.notAfterMs
  await client.call('Certificates', 'DescribeMesh', {})
  t.equal(server.callers.at(-1)?.id, null, 'an ended certificate proves nobody')
  sweep()
  await closed
  client.close()
})

t.test('a new credential serves new connections and cuts none', async (t) => {
  const server = await startTestServer(ca)
  t.teardown(() => server.stop())
  const before = clientWith(server, await ca.issue({ id: hostId }))
  await before.call('Certificates', 'DescribeMesh', {})
  const next = await ca.issue({ id: 'spiffe://mesh.internal/controller/c2' })
  server.server.setCredential({ ...next, bundlePem: ca.bundlePem })
  await before.call('Certificates', 'DescribeMesh', {})
  const socket = dial(server, await ca.issue({ id: hostId }))
  await ending(socket)
  t.equal(socket.getPeerX509Certificate()?.serialNumber.toLowerCase(), next.serial)
  t.equal(server.server.connections, 2)
  socket.destroy()
  before.close()
})

t.test('a peer that stopped answering is found by keepalive', async (t) => {
  const server = await startTestServer(ca, {}, { keepaliveMs: 50, keepaliveTimeoutMs: 50 })
  t.teardown(() => server.stop())
  // A TLS peer that never speaks HTTP/2 never answers a ping.
  const socket = dial(server, await ca.issue({ id: hostId }))
  t.equal(await ending(socket), 'open TLSv1.3')
  await new Promise((resolve) => {
    socket.on('close', resolve)
  })
})

t.test('stop lets a call finish, then closes every connection', async (t) => {
  const server = await startTestServer(ca)
  const client = clientWith(server, await ca.issue({ id: hostId }))
  const idle = dial(server, null)
  await ending(idle)
  const call = client.call('Certificates', 'DescribeMesh', {})
  const closed = new Promise((resolve) => {
    idle.on('close', resolve)
  })
  await call
  await server.stop()
  await closed
  t.equal(server.server.connections, 0)
  t.equal(await outcome(client.call('Certificates', 'DescribeMesh', {})), 'controller-unavailable')
  client.close()
})

t.test('a port in use is a clear error', async (t) => {
  const server = await startTestServer(ca)
  t.teardown(() => server.stop())
  const listen = { host: '127.0.0.1', port: server.port }
  await t.rejects(startTestServer(ca, {}, { listen }), {
    code: 'port-unavailable',
    message: `cannot listen on 127.0.0.1:${server.port}`,
  })
})

t.test('a request past the limit is refused', async (t) => {
  const server = await startTestServer(ca)
  t.teardown(() => server.stop())
  const client = clientWith(server, null)
  const large = { ...enrolment, csr: Buffer.alloc(70_000) }
  t.not(await outcome(client.call('Enrolment', 'Enrol', large)), 'ok')
  t.equal(await outcome(client.call('Enrolment', 'Enrol', enrolment)), 'ok')
  client.close()
})

t.test('whoever is unwanted from now on is cut off within a sweep, and only who is', async (t) => {
  const unwanted = new Set<string>()
  const refusalOf = ({ serial }: { readonly serial: string }): string =>
    unwanted.has(serial) ? 'it is banned' : ''
  const server = await startTestServer(ca, {}, {}, clock, refusalOf)
  t.teardown(() => server.stop())
  const [thief, honest] = [await ca.issue({ id: hostId }), await ca.issue({ id: hostId })]
  const [bad, good] = [clientWith(server, thief), clientWith(server, honest)]
  for (const client of [bad, good]) await client.call('Certificates', 'DescribeMesh', {})
  t.equal(server.server.connections, 2)
  unwanted.add(thief.serial)
  await until('one is cut', () => server.server.connections === 1, { withinMs: 30_000 })
  t.equal(await outcome(bad.call('Certificates', 'DescribeMesh', {})), 'controller-unavailable')
  t.equal(await outcome(good.call('Certificates', 'DescribeMesh', {})), 'ok')
  t.match(server.lines.at(-1), { msg: 'a peer was refused', why: 'it is banned' })
  bad.close()
  good.close()
})
