/**
 * One table of peers that prove nothing, run over every path on which a peer proves itself: tunnels
 * and gRPC, each from both ends, and HTTPS by undici with our check. Nobody in it is ever let in.
 */

import { once } from 'node:events'
import { createServer as createHttps } from 'node:https'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { Client } from 'undici'
import { systemClock as clock } from '#shared/lifecycle/clock.ts'
import { must, parseHostName } from '#shared/model/names.ts'
import { type Bans, noBans } from '#shared/model/trust.ts'
import { BanList } from '#shared/pki/ban-list.ts'
import { ControllerClient } from '#shared/rpc/controller-client.ts'
import { checkPeer } from '#shared/rpc/peer-check.ts'
import { makeTestCa, type TestCa, type TestLeaf } from '#test/support/certs.ts'
import { startTestServer, type TestServer } from '#test/support/controller-server.ts'
import { makeStrangers, type Stranger } from '#test/support/strangers.ts'
import { makeTunnelPair, type TunnelPair } from '#test/support/tunnel-pair.ts'

t.setTimeout(300_000)

/** Whether somebody who shows this leaf is let in. */
type Knock = (leaf: TestLeaf) => Promise<boolean>

const ca = await makeTestCa()
const id = (path: string): string => `spiffe://mesh.internal/${path}`
const ban = { reason: 'stolen', by: '', at: '' }

/** Shows everybody of the table, and before and after them somebody who belongs there. */
async function runTable(
  t: Test,
  knock: Knock,
  good: TestLeaf,
  strangers: readonly Stranger[],
): Promise<void> {
  t.ok(strangers.length >= 60, `${strangers.length} strangers`)
  t.ok(await knock(good), 'who belongs there is let in')
  for (const { name, leaf } of strangers) t.notOk(await knock(leaf), name)
  t.ok(await knock(good), 'and still is')
}

/** Strangers by their role only: right in every way, and not who is wanted. */
async function others(...paths: readonly string[]): Promise<readonly Stranger[]> {
  return Promise.all(
    paths.map(async (path) => ({ name: path, leaf: await ca.issue({ id: id(path) }) })),
  )
}

/** Two who are banned, one by its host and one by its serial, and the bans. */
async function makeBanned(path: string): Promise<[readonly Stranger[], Bans]> {
  const dnsNames = ['thief.host.mesh.internal']
  const byHost = await ca.issue({ id: id(path), dnsNames })
  const bySerial = await ca.issue({ id: id(path) })
  const bans = { hosts: { thief: ban }, serials: { [bySerial.serial]: ban } }
  const strangers = [
    { name: 'of a banned host', leaf: byHost },
    { name: 'with a banned serial', leaf: bySerial },
  ]
  return [strangers, bans]
}

/** Knocks by a tunnel; `show` makes one end show the leaf. */
function tunnelKnock(t: Test, pair: TunnelPair, show: (leaf: TestLeaf) => void): Knock {
  let count = 0
  return async (leaf) => {
    show(leaf)
    // Another name of the host each time, so that no tunnel and no failure is kept.
    const name = must(parseHostName(`h${count++}`))
    const before = pair.calls.length
    const opened = await pair.open({ host: { ...pair.target.host, name } })
    if (opened.kind !== 'open') t.equal(pair.calls.length, before, 'nothing was asked')
    return opened.kind === 'open'
  }
}

/** Knocks by a call of the controller; `clientFor` makes one end show the leaf. */
function callKnock(
  t: Test,
  server: TestServer,
  clientFor: (leaf: TestLeaf) => ControllerClient,
): Knock {
  return async (leaf) => {
    const client = clientFor(leaf)
    const before = server.callers.length
    try {
      await client.call('Certificates', 'DescribeMesh', {})
      return true
    } catch {
      t.equal(server.callers.length, before, 'no handler heard of it')
      return false
    } finally {
      client.close()
    }
  }
}

const wanted = { kind: 'controller', trustDomain: ca.trustDomain } as const

t.test('a tunnel’s caller takes nobody but the service it dialled', async (t) => {
  const [banned, bans] = await makeBanned('service/orders')
  const pair = await makeTunnelPair(t, { ca })
  pair.calling.setTrust(ca.bundlePem, ca.trustDomain, bans)
  const { service } = pair.target
  const knock = tunnelKnock(t, pair, (leaf) => {
    const shown = { ...leaf, id: id(`service/${service}`) as typeof leaf.id, notAfterMs: Infinity }
    pair.accepting.setCredentials([shown])
  })
  await runTable(t, knock, await ca.issue({ id: id('service/orders') }), [
    ...(await makeStrangers(ca, 'service', 'orders')),
    ...(await others('service/order', 'service/orders2', 'service/web', 'host/h2')),
    ...(await others('controller/c1', 'operator/admin', 'host/orders')),
    ...banned,
  ])
})

t.test('a tunnel’s listener takes nobody who is not of the mesh', async (t) => {
  const [banned, bans] = await makeBanned('service/web')
  const pair = await makeTunnelPair(t, { ca })
  pair.accepting.setTrust(ca.bundlePem, ca.trustDomain, bans)
  const knock = tunnelKnock(t, pair, (leaf) => {
    pair.calling.setCredentials([{ ...leaf, id: pair.caller, notAfterMs: Infinity }])
  })
  await runTable(t, knock, await ca.issue({ id: pair.caller }), [
    ...(await makeStrangers(ca, 'service', 'web')),
    ...(await others('controller/c1', 'operator/admin')),
    ...banned,
  ])
})

t.test('a client of the controller takes nobody but a controller', async (t) => {
  const [banned, bans] = await makeBanned('controller/c1')
  const list = new BanList(bans, ca.trustDomain)
  const server = await startTestServer(ca)
  t.teardown(() => server.stop())
  const own = { ...(await ca.issue({ id: id('host/h1') })), bundlePem: ca.bundlePem }
  const knock = callKnock(t, server, ({ chainPem, keyPem }) => {
    server.server.setCredential({ chainPem, keyPem, bundlePem: ca.bundlePem })
    return new ControllerClient(
      { clock, credential: own, expected: wanted, refusalOf: (svid) => list.refusal(svid) },
      { address: server.address },
    )
  })
  await runTable(t, knock, await ca.issue({ id: id('controller/c1') }), [
    ...(await makeStrangers(ca, 'controller', 'c1')),
    ...(await others('host/c1', 'service/c1', 'operator/c1')),
    ...banned,
  ])
})

t.test('a gRPC port of the controller takes nobody who is not of the mesh', async (t) => {
  const [banned, bans] = await makeBanned('host/h1')
  const list = new BanList(bans, ca.trustDomain)
  const server = await startTestServer(ca, {}, {}, clock, (svid) => list.refusal(svid))
  t.teardown(() => server.stop())
  const knock = callKnock(t, server, (leaf) => {
    const credential = { ...leaf, bundlePem: ca.bundlePem }
    const parts = { clock, credential, expected: wanted }
    return new ControllerClient(parts, { address: server.address })
  })
  await runTable(t, knock, await ca.issue({ id: id('host/h1') }), [
    ...(await makeStrangers(ca, 'host', 'h1')),
    ...banned,
  ])
})

t.test('undici holds a server to our check', async (t) => {
  const [banned, bans] = await makeBanned('controller/c1')
  const list = new BanList(bans, ca.trustDomain)
  let asked = 0
  const knock: Knock = async (leaf) => {
    const server = createHttps({ key: leaf.keyPem, cert: leaf.chainPem }, (_, response) => {
      asked++
      response.end('hello')
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const client = new Client(`https://127.0.0.1:${port}`, {
      connect: {
        ca: ca.bundlePem,
        minVersion: 'TLSv1.3',
        checkServerIdentity: (_, { raw }) => {
          const peer = checkPeer(raw, wanted, (svid) => list.refusal(svid))
          return peer.ok ? undefined : new Error(peer.problem)
        },
      },
    })
    const before = asked
    try {
      await (await client.request({ path: '/', method: 'GET' })).body.text()
      return true
    } catch {
      t.equal(asked, before, 'nothing was asked of it')
      return false
    } finally {
      await client.destroy()
      server.close()
    }
  }
  await runTable(t, knock, await ca.issue({ id: id('controller/c1') }), [
    ...(await makeStrangers(ca, 'controller', 'c1')),
    ...(await others('host/c1', 'service/c1', 'operator/c1')),
    ...banned,
  ])
})

t.test('a ban ends a tunnel at either end at once, and only that of who is banned', async (t) => {
  const pair = await makeTunnelPair(t, {
    ca,
    caller: { dnsNames: ['thief.host.mesh.internal'] },
    service: { dnsNames: ['honest.host.mesh.internal'] },
  })
  for (const [side, name] of [
    [pair.accepting, 'thief'],
    [pair.calling, 'honest'],
  ] as const) {
    const opened = await pair.open()
    if (opened.kind !== 'open') throw new Error('no tunnel')
    side.setTrust(ca.bundlePem, ca.trustDomain, { ...noBans, hosts: { another: ban } })
    opened.channel.write(Buffer.from('still here'))
    await opened.sink.until(({ bytes }) => bytes === 10)
    side.setTrust(ca.bundlePem, ca.trustDomain, { ...noBans, hosts: { [name]: ban } })
    await opened.sink.until(({ closed }) => closed !== undefined)
    t.not((await pair.open()).kind, 'open', `${name} is kept out`)
    side.setTrust(ca.bundlePem, ca.trustDomain, noBans)
    const until = Date.now() + 30_000
    while ((await pair.open()).kind !== 'open') {
      if (Date.now() > until) throw new Error('not let in again')
    }
  }
})

t.test('a root that is gone proves nobody any more, and cuts nothing that stands', async (t) => {
  const next: TestCa = await makeTestCa('mesh.internal', 'next')
  const both = ca.bundlePem + next.bundlePem
  const pair = await makeTunnelPair(t, { ca, callerCa: next })
  pair.accepting.setTrust(both, ca.trustDomain)
  const opened = await pair.open()
  if (opened.kind !== 'open') throw new Error('two roots are trusted, and one was refused')
  pair.accepting.setTrust(ca.bundlePem, ca.trustDomain)
  const name = must(parseHostName('another-way'))
  t.match(await pair.open({ host: { ...pair.target.host, name } }), { kind: 'failed' })
  opened.channel.write(Buffer.from('still here'))
  await opened.sink.until(({ bytes }) => bytes === 10)
})
