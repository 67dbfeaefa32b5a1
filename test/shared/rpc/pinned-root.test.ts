/** Holds the first contact to its word: only the pinned root is accepted, and nothing is sent. */

import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import t from 'tap'
import { certificateHash } from '#shared/pki/trust.ts'
import { fetchPinnedRoot } from '#shared/rpc/pinned-root.ts'
import { makeTestCa } from '#test/support/certs.ts'
import { startTestServer } from '#test/support/controller-server.ts'

const ca = await makeTestCa()
const hash = certificateHash(ca.rootDer)

t.test('fetchPinnedRoot answers the root whose hash the token pins', async (t) => {
  const server = await startTestServer(ca)
  t.teardown(() => server.stop())
  t.equal(await fetchPinnedRoot({ address: server.address, hash }), ca.bundlePem)
  t.same(server.callers, [])
})

t.test('fetchPinnedRoot refuses every other server', async (t) => {
  const other = await startTestServer(await makeTestCa())
  t.teardown(() => other.stop())
  await t.rejects(fetchPinnedRoot({ address: other.address, hash }), { code: 'root-mismatch' })
  const wrong = Buffer.from(hash)
  wrong[31] = (wrong[31] ?? 0) ^ 1
  const own = await startTestServer(ca)
  t.teardown(() => own.stop())
  await t.rejects(fetchPinnedRoot({ address: own.address, hash: wrong }), { code: 'root-mismatch' })
})

t.test('fetchPinnedRoot sends nothing after its handshake', async (t) => {
  const leaf = await ca.issue({ id: 'spiffe://mesh.internal/controller/c1' })
  let received = 0
  const server = createTlsServer({ cert: leaf.chainPem, key: leaf.keyPem, ALPNProtocols: ['h2'] })
  server.on('secureConnection', (socket) => {
    socket.on('error', () => {})
    socket.on('data', (chunk) => (received += chunk.length))
  })
  server.on('tlsClientError', () => {})
  const closed = new Promise((resolve) => {
    server.on('connection', (socket) => socket.on('close', resolve))
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  await t.rejects(fetchPinnedRoot({ address: `127.0.0.1:${port}`, hash }), {
    code: 'root-mismatch',
  })
  await closed
  t.equal(received, 0)
})

t.test('fetchPinnedRoot gives up on silence, on refusal and when asked to', async (t) => {
  const silent = createServer((socket) => socket.on('error', () => {}).resume())
  await new Promise<void>((resolve) => {
    silent.listen(0, '127.0.0.1', resolve)
  })
  const { port } = silent.address() as AddressInfo
  const address = `127.0.0.1:${port}`
  await t.rejects(fetchPinnedRoot({ address, hash, timeoutMs: 50 }), {
    code: 'controller-unavailable',
    message: /in time/,
  })
  const stopping = new AbortController()
  const given = t.rejects(fetchPinnedRoot({ address, hash, signal: stopping.signal }), {
    message: /given up/,
  })
  stopping.abort()
  await given
  await t.rejects(fetchPinnedRoot({ address, hash, signal: stopping.signal }), {
    message: /given up/,
  })
  await new Promise((resolve) => {
    silent.close(resolve)
  })
  await t.rejects(fetchPinnedRoot({ address, hash }), { code: 'controller-unavailable' })
})
