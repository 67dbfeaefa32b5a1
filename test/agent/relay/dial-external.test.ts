import { createServer as createTlsServer } from 'node:tls'
import { createServer } from 'node:net'
import { once } from 'node:events'
import type { AddressInfo, Server } from 'node:net'
import t, { type Test } from 'tap'
import { ExternalDialler, type ExternalTarget } from '#agent/relay/dial-external.ts'
import { must, parseInstanceId, parsePort, parseServiceName } from '#shared/model/names.ts'
import { systemClock } from '#shared/lifecycle/clock.ts'
import { makeTestCa } from '#test/support/certs.ts'
import { recordedOpen } from '#test/support/recorded-channel.ts'

const ca = await makeTestCa('outside.test')
const leaf = await ca.issue({ id: 'https://example.test/', dnsNames: ['api.example.test'] })
const id = must(parseInstanceId('at-127-0-0-2'))
/** Of this machine, but not the one that its calls come from. */
const there = '127.0.0.2'

async function portOf(t: Test, server: Server): Promise<number> {
  server.listen(0, there)
  await once(server, 'listening')
  t.teardown(() => void server.close())
  return (server.address() as AddressInfo).port
}

function targetOf(port: number, more: Partial<ExternalTarget> = {}): ExternalTarget {
  return {
    name: must(parseServiceName('api')),
    port: must(parsePort(port)),
    protocol: 'http',
    tls: { caPem: ca.bundlePem },
    connectTimeoutMs: 60_000,
    endpoint: { id, address: there, said: 'api.example.test' },
    ...more,
  }
}

const open = (target: ExternalTarget) =>
  recordedOpen((opener) => new ExternalDialler({ clock: systemClock }).dial(target, opener))

t.test('TLS of the agent proves the far side, and carries both halves', async (t) => {
  const asked: unknown[] = []
  const server = createTlsServer(
    {
      cert: leaf.chainPem,
      key: leaf.keyPem,
      ALPNProtocols: ['h2', 'http/1.1'],
      allowHalfOpen: true,
    },
    (socket) => {
      asked.push([socket.servername, socket.alpnProtocol])
      socket.on('error', () => {})
      socket.on('data', (chunk) => socket.write(`you said ${chunk.toString()}`))
      socket.on('end', () => socket.end('bye'))
    },
  )
  const opened = await open(targetOf(await portOf(t, server)))
  if (opened.kind !== 'open') throw new Error(opened.detail)
  opened.channel.writeText('hello')
  await opened.sink.until(({ text }) => text === 'you said hello')
  opened.channel.end()
  await opened.sink.until(({ text }) => text.endsWith('bye'))
  t.same(asked, [['api.example.test', 'http/1.1']])
})

t.test('whoever does not prove to be the one named is not spoken to', async (t) => {
  const server = createTlsServer({ cert: leaf.chainPem, key: leaf.keyPem }, (socket) => {
    socket.on('error', () => {}).resume()
  })
  server.on('tlsClientError', () => {})
  const port = await portOf(t, server)
  const endpoint = { id, address: there, said: 'other.example.test' }
  const other = (await makeTestCa('other.test', 'other')).bundlePem
  const wrong: readonly (readonly [Partial<ExternalTarget>, RegExp])[] = [
    [{ endpoint }, /other\.example\.test/],
    [{ tls: { caPem: ca.bundlePem, serverName: 'db.example.test' } }, /db\.example\.test/],
    [{ endpoint: { ...endpoint, said: there } }, /127\.0\.0\.2/],
    [{ tls: { caPem: other } }, /self-signed|unable to (get|verify)/],
    [{ tls: {} }, /self-signed|unable to (get|verify)/],
  ]
  for (const [more, why] of wrong) {
    const opened = await open(targetOf(port, more))
    t.match(opened, { kind: 'failed', reason: 'external-failed', detail: why })
  }
  const right = { caPem: ca.bundlePem, serverName: 'api.example.test' }
  const opened = await open(targetOf(port, { endpoint, tls: right }))
  t.equal(opened.kind, 'open', 'serverName says whose certificate counts')
  if (opened.kind === 'open') opened.channel.abort()
})

t.test('who takes no connection, or never ends the handshake, is named', async (t) => {
  const silent = createServer((socket) => void socket.on('error', () => {}).resume())
  const port = await portOf(t, silent)
  const slow = await open(targetOf(port, { connectTimeoutMs: 20 }))
  t.match(slow, {
    reason: 'external-failed',
    detail: /api at 127\.0\.0\.2.*handshake within 20 ms/,
  })
  const closing = createServer((socket) => socket.destroy())
  t.match(await open(targetOf(await portOf(t, closing))), { reason: 'external-failed' })
  const gone = createServer()
  const free = await portOf(t, gone)
  gone.close()
  await once(gone, 'close')
  t.match(await open(targetOf(free, { tls: null })), { detail: /ECONNREFUSED/ })
})

t.test('an address that is this host’s own is not called, with TLS or without', async (t) => {
  const server = createServer((socket) => void socket.on('error', () => {}).resume())
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => void server.close())
  const { port } = server.address() as AddressInfo
  const endpoint = { id, address: '127.0.0.1', said: 'api.example.test' }
  for (const tls of [null, { caPem: ca.bundlePem }]) {
    const opened = await open(targetOf(port, { endpoint, tls }))
    t.match(opened, { reason: 'external-failed', detail: /api at .* is this host itself/ })
  }
})

t.test(
  'the agent shows its certificate to whoever asks for one, and a new one after a change',
  async (t) => {
    const [mine, next] = await Promise.all(
      ['mine', 'next'].map((commonName) => ca.issue({ id: 'https://mine.test/', commonName })),
    )
    if (mine === undefined || next === undefined) throw new Error('no leaves')
    const seen: string[] = []
    const server = createTlsServer(
      {
        cert: leaf.chainPem,
        key: leaf.keyPem,
        ca: ca.bundlePem,
        requestCert: true,
        rejectUnauthorized: true,
        allowHalfOpen: true,
      },
      (socket) => {
        socket.on('error', () => {})
        seen.push(socket.getPeerX509Certificate()?.subject ?? '')
        socket.end('welcome')
      },
    )
    server.on('tlsClientError', () => {})
    const port = await portOf(t, server)
    const dialler = new ExternalDialler({ clock: systemClock })
    for (const { chainPem, keyPem } of [mine, next]) {
      const tls = { caPem: ca.bundlePem, certPem: chainPem, keyPem }
      const opened = await recordedOpen((opener) => dialler.dial(targetOf(port, { tls }), opener))
      if (opened.kind !== 'open') throw new Error(opened.detail)
      await opened.sink.until(({ text }) => text === 'welcome')
      opened.channel.abort()
    }
    t.match(seen, [/mine/, /next/])
  },
)

t.test('what TLS cannot be spoken with is a failure, and no end of the worker', async (t) => {
  const tls = { certPem: leaf.chainPem, keyPem: 'no key' }
  t.match(await open(targetOf(1, { tls })), { kind: 'failed', detail: /TLS cannot be spoken/ })
})
