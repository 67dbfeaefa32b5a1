/** Holds a worker's credentials to their word, over real TLS where OpenSSL has a say. */

import type { AddressInfo } from 'node:net'
import { connect, createServer } from 'node:tls'
import t from 'tap'
import { Credentials } from '#agent/identity/credentials.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import { makeTestCa } from '#test/support/certs.ts'
import { FakeClock } from '#test/support/fake-clock.ts'

const ca = await makeTestCa()
const orders = await ca.issue({ id: 'spiffe://mesh.internal/service/orders' })
const carts = await ca.issue({ id: 'spiffe://mesh.internal/service/carts' })

function hold(): Credentials {
  const credentials = new Credentials({ clock: new FakeClock({ epoch: Date.now() }) })
  credentials.setTrust(ca.bundlePem, ca.trustDomain)
  credentials.setCredentials([orders, carts])
  return credentials
}

t.test('contexts of two identities prove each to the other', async (t) => {
  const credentials = hold()
  const [server, client] = [credentials.contextFor(orders.id), credentials.contextFor(carts.id)]
  if (server.kind === 'none' || client.kind === 'none') throw new Error('no context')
  t.equal(server.serial, orders.serial)
  const listener = createServer({
    SNICallback: (_name, done) => done(null, server.context),
    requestCert: true,
    rejectUnauthorized: true,
  })
  const caller = new Promise<string>((resolve) => {
    listener.on('secureConnection', (socket) => {
      const peer = credentials.readPeer(socket.getPeerX509Certificate()?.raw ?? Buffer.alloc(0))
      resolve(peer.ok ? peer.value.id : peer.problem)
      socket.end()
    })
  })
  await new Promise<void>((resolve) => {
    listener.listen(0, '127.0.0.1', resolve)
  })
  const { port } = listener.address() as AddressInfo
  const socket = connect({
    host: '127.0.0.1',
    port,
    servername: 'orders.service.mesh.internal',
    secureContext: client.context,
    checkServerIdentity(_host, { raw }) {
      const peer = credentials.readPeer(raw)
      return peer.ok && peer.value.id === orders.id ? undefined : new Error('somebody else')
    },
  })
  t.equal(await caller, carts.id)
  t.equal(socket.getProtocol(), 'TLSv1.3')
  socket.destroy()
  listener.close()
})

t.test('what is missing, ended or unusable is none, with the reason', async (t) => {
  const clock = new FakeClock({ epoch: Date.now() })
  const credentials = new Credentials({ clock })
  const none = (id: SpiffeId, detail: RegExp): void => {
    t.match(credentials.contextFor(id), { kind: 'none', reason: 'no-credential', detail })
  }
  t.match(credentials.readPeer(orders.der), { ok: false, problem: /no trust bundle/ })
  none(orders.id, /holds no certificate/)
  const mixed = { ...carts, keyPem: orders.keyPem }
  credentials.setCredentials([orders, mixed])
  none(orders.id, /no trust bundle/)
  credentials.setTrust(ca.bundlePem, ca.trustDomain)
  t.equal(credentials.contextFor(orders.id).kind, 'ready')
  none(carts.id, /cannot be used/)
  await clock.advance(orders.notAfterMs - clock.now())
  none(orders.id, /ended at/)
  credentials.setCredentials([])
  none(orders.id, /holds no certificate/)
})

t.test('a context is kept until its credential or the bundle changes', async (t) => {
  const credentials = hold()
  const told: SpiffeId[] = []
  const stop = credentials.onRotated((id) => told.push(id))
  const context = (): unknown => {
    const answer = credentials.contextFor(orders.id)
    return answer.kind === 'ready' ? answer.context : null
  }
  const first = context()
  credentials.setCredentials([{ ...orders }, { ...carts }])
  credentials.setTrust(ca.bundlePem, ca.trustDomain)
  t.equal(context(), first)
  t.same(told, [])

  const renewed = await ca.issue({ id: orders.id })
  credentials.setCredentials([renewed, carts])
  t.same(told, [orders.id])
  t.not(context(), first)
  t.match(credentials.contextFor(orders.id), { serial: renewed.serial })

  credentials.setCredentials([renewed])
  t.same(told, [orders.id, carts.id], 'one that is gone is told too')

  const second = context()
  credentials.setTrust(ca.bundlePem + (await makeTestCa()).bundlePem, ca.trustDomain)
  t.not(context(), second)
  stop()
  credentials.setCredentials([])
  t.equal(told.length, 2, 'tunnels that stand need no other for a bundle')
})

t.test('readPeer holds peers to the trust domain', async (t) => {
  const credentials = hold()
  const foreign = await ca.issue({ id: 'spiffe://other.internal/service/orders' })
  t.match(credentials.readPeer(carts.der), { ok: true, value: { id: carts.id } })
  t.match(credentials.readPeer(foreign.der), { ok: false, problem: /outside/ })
})
