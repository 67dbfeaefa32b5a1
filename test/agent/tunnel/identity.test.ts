/** Wrong peers at either end of a tunnel: nobody speaks before both have proven who they are. */

import { once } from 'node:events'
import { connect as connectTls, createServer as createTlsServer, type TLSSocket } from 'node:tls'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { must, parsePort } from '#shared/model/names.ts'
import { type LeafSettings, makeTestCa, type TestLeaf } from '#test/support/certs.ts'
import { makeTunnelPair, type TunnelPair } from '#test/support/tunnel-pair.ts'

const id = (path: string, domain = 'mesh.internal'): string => `spiffe://${domain}/${path}`
const sni = 'orders.service.mesh.internal'

/** Leaves that the same CA signs and that prove nothing here. */
const wrongLeaves: Readonly<Record<string, LeafSettings>> = {
  'another trust domain': { id: id('service/orders', 'other.internal') },
  'an operator': { id: id('operator/root') },
  'a controller': { id: id('controller/c1') },
  'no SPIFFE id': { id: 'https://mesh.internal/service/orders' },
  'an id with a trailing slash': { id: `${id('service/orders')}/` },
  'no SAN at all': { id: id('service/orders'), san: false },
  'an expired certificate': { id: id('service/orders'), notBeforeInMs: -9e6, notAfterInMs: -1e6 },
  'a certificate of tomorrow': { id: id('service/orders'), notBeforeInMs: 1e7, notAfterInMs: 2e7 },
  'a CA certificate': { id: id('service/orders'), ca: true },
  'a self-signed certificate': { id: id('service/orders'), selfSigned: true },
}

t.test('Tunnels demands exactly the service it dialled', async (t) => {
  const strangers: Readonly<Record<string, LeafSettings>> = {
    ...wrongLeaves,
    'another service': { id: id('service/billing') },
    'a service whose name begins alike': { id: id('service/orders2') },
    'the host of the service': { id: id('host/h2') },
    'the caller itself': { id: id('service/web') },
    'a certificate for clients only': {
      id: id('service/orders'),
      extendedKeyUsage: ['1.3.6.1.5.5.7.3.2'],
    },
  }
  for (const [name, service] of Object.entries(strangers)) {
    const pair = await makeTunnelPair(t, { service })
    const result = await pair.open()
    t.match(result, { kind: 'failed', reason: 'tunnel-refused-identity' }, name)
    t.same(pair.calls, [], `${name}: nothing was asked of it`)
    t.same(pair.handshakes.dialled, ['tunnel-refused-identity'])
  }
})

t.test('Tunnels demands a chain to its own bundle', async (t) => {
  const pair = await makeTunnelPair(t, { serviceCa: await makeTestCa() })
  t.match(await pair.open(), { kind: 'failed', reason: 'tunnel-refused-identity' })
})

t.test('Tunnels demands TLS 1.3, HTTP/2 and TLS at all', async (t) => {
  const pair = await makeTunnelPair(t)
  const leaf = await pair.ca.issue({ id: id('service/orders') })
  const tls = { key: leaf.keyPem, cert: leaf.chainPem }
  for (const [options, detail] of [
    [{ ...tls, maxVersion: 'TLSv1.2' as const, ALPNProtocols: ['h2'] }, /protocol version/],
    [{ ...tls, ALPNProtocols: ['http/1.1'] }, /application protocol/],
    [tls, /does not speak HTTP\/2/],
  ] as const) {
    const server = createTlsServer(options, (socket) => socket.on('error', () => {}))
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.teardown(() => server.close())
    const tunnelPort = must(parsePort((server.address() as AddressInfo).port))
    const result = await pair.open({ host: { ...pair.target.host, tunnelPort } })
    t.match(result, { kind: 'failed', reason: 'tunnel-failed', detail })
  }
})

t.test('TunnelListener demands exactly one valid id of the mesh from the caller', async (t) => {
  const strangers = { ...wrongLeaves, 'a certificate for servers only': serverOnly() }
  for (const [name, caller] of Object.entries(strangers)) {
    const pair = await makeTunnelPair(t, { caller })
    t.match(await pair.open(), { kind: 'failed', reason: 'tunnel-failed' }, name)
    t.same(pair.calls, [], `${name}: no stream of it`)
    t.equal(pair.handshakes.accepted.length, 1, `${name}: counted`)
    t.not(pair.handshakes.accepted[0], 'ok')
    t.equal(pair.listener.openTunnels, 0)
  }
})

function serverOnly(): LeafSettings {
  return { id: id('service/web'), extendedKeyUsage: ['1.3.6.1.5.5.7.3.1'] }
}

t.test('TunnelListener demands a chain to its own bundle', async (t) => {
  const pair = await makeTunnelPair(t, { callerCa: await makeTestCa() })
  t.match(await pair.open(), { kind: 'failed', reason: 'tunnel-failed' })
  t.same(pair.calls, [])
})

t.test('TunnelListener takes the identity of a host', async (t) => {
  const pair = await makeTunnelPair(t, { caller: { id: id('host/h1') } })
  t.equal((await pair.open()).kind, 'open')
  t.equal(pair.calls[0]?.peer, id('host/h1'))
})

interface Knock {
  readonly servername?: string
  readonly leaf?: TestLeaf | null
  readonly protocols?: string[]
  readonly maxVersion?: 'TLSv1.2'
  readonly session?: Buffer
}

/** Connects by hand, trusting anybody; answers whether the listener let us in. */
async function knock(t: Test, pair: TunnelPair, how: Knock): Promise<boolean> {
  const { leaf = await pair.ca.issue({ id: pair.caller }) } = how
  const socket: TLSSocket = connectTls({
    host: '127.0.0.1',
    port: pair.listener.port,
    ALPNProtocols: how.protocols ?? ['h2'],
    rejectUnauthorized: false,
    checkServerIdentity: () => undefined,
    ...(leaf === null ? {} : { key: leaf.keyPem, cert: leaf.chainPem }),
    ...(how.servername === undefined ? {} : { servername: how.servername }),
    ...(how.maxVersion === undefined ? {} : { maxVersion: how.maxVersion }),
    ...(how.session === undefined ? {} : { session: how.session }),
  })
  t.teardown(() => socket.destroy())
  socket.on('error', () => {})
  // A server that took us says SETTINGS; one that did not just ends.
  return new Promise((resolve) => {
    socket.once('data', () => resolve(true))
    socket.once('close', () => resolve(false))
  })
}

t.test('TunnelListener refuses whoever does not ask for a service it has', async (t) => {
  const pair = await makeTunnelPair(t)
  t.ok(await knock(t, pair, { servername: sni }), 'and takes who does')
  for (const servername of [
    undefined,
    'localhost',
    'billing.service.mesh.internal',
    'orders.service.other.internal',
    '.service.mesh.internal',
    'a.orders.service.mesh.internal',
    `${'x'.repeat(64)}.service.mesh.internal`,
    'orders.service.mesh.internal.',
  ]) {
    const how = servername === undefined ? {} : { servername }
    t.notOk(await knock(t, pair, how), String(servername))
  }
  t.ok(await knock(t, pair, { servername: sni }), 'and lives')
})

t.test('TunnelListener refuses callers without certificate, h2 or TLS 1.3', async (t) => {
  const pair = await makeTunnelPair(t)
  t.notOk(await knock(t, pair, { servername: sni, leaf: null }), 'no certificate')
  t.notOk(await knock(t, pair, { servername: sni, protocols: ['http/1.1'] }), 'no h2')
  t.notOk(await knock(t, pair, { servername: sni, maxVersion: 'TLSv1.2' }), 'TLS 1.2')
  t.same(pair.calls, [])
})

t.test('TunnelListener resumes no session', async (t) => {
  const pair = await makeTunnelPair(t)
  const leaf = await pair.ca.issue({ id: pair.caller })
  const options = {
    host: '127.0.0.1',
    port: pair.listener.port,
    servername: sni,
    ALPNProtocols: ['h2'],
    ca: pair.ca.bundlePem,
    key: leaf.keyPem,
    cert: leaf.chainPem,
    checkServerIdentity: () => undefined,
  }
  const first = connectTls(options)
  t.teardown(() => first.destroy())
  const sessions: Buffer[] = []
  first.on('session', (session: Buffer) => sessions.push(session))
  await once(first, 'data')
  const [session] = sessions
  if (session === undefined) return
  const second = connectTls({ ...options, session })
  t.teardown(() => second.destroy())
  second.on('error', () => {})
  await Promise.race([once(second, 'data'), once(second, 'close')])
  t.notOk(second.isSessionReused() && !second.destroyed)
})
