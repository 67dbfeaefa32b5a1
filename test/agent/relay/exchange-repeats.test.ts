import { createServer, type AddressInfo } from 'node:net'
import { once } from 'node:events'
import t from 'tap'
import { FakeChannel } from '#test/support/fake-channel.ts'
import { RawServer } from '#test/support/raw-peer.ts'
import { RelayRig, type RigSettings } from '#test/support/relay-rig.ts'
import { until } from '#test/support/until.ts'

type Test = Parameters<typeof RelayRig.start>[0]

/** A port that nobody listens on. */
async function deadPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

async function servers(t: Test, count: number): Promise<RawServer[]> {
  const all = await Promise.all(Array.from({ length: count }, () => RawServer.listen()))
  t.teardown(() => {
    for (const server of all) server.stop()
  })
  return all
}

async function rigOf(
  t: Test,
  ports: readonly number[],
  settings: Partial<RigSettings> = {},
  mtls = false,
) {
  return RelayRig.start(t, {
    upstreams: ports.map((port, index) => ({ port, name: `i${index + 1}`, mtls })),
    ...settings,
  })
}

const request = (method: string, body = '', ...lines: string[]) =>
  `${method} / HTTP/1.1\r\nHost: orders\r\n` +
  lines.map((line) => `${line}\r\n`).join('') +
  `${body === '' ? '' : `Content-Length: ${body.length}\r\n`}\r\n${body}`
const ok = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'

t.test('what could not be sent goes elsewhere, whatever the method', async (t) => {
  for (const text of [
    request('GET'),
    request('POST', 'once'),
    request('PATCH', 'x'.repeat(200_000)),
    'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nonce\r\n0\r\n\r\n',
  ]) {
    const [good] = await servers(t, 1)
    const rig = await rigOf(t, [await deadPort(), await deadPort(), good?.port ?? 0])
    const caller = await rig.call(text)
    const peer = await good?.peer(0)
    const { length } = text.slice(text.indexOf('\r\n\r\n') + 4)
    await peer?.until((one) => {
      const at = one.text.indexOf('\r\n\r\n')
      return at > 0 && one.bytes >= at + 4 + length
    })
    peer?.write(ok)
    await caller.until('ok')
    t.match(await rig.recorded(1), { attempts: 3, reason: 'ok', instance: 'i3' })
    t.same(
      rig.upstreams.map(({ results }) => results.join()),
      ['connect-failed', 'connect-failed', 'ok'],
    )
  }
})

t.test('three attempts are the most', async (t) => {
  const dead = await deadPort()
  const rig = await rigOf(t, [dead, dead, dead, dead])
  const caller = await rig.call(request('GET'))
  t.match(await caller.until('instance-refused'), /^HTTP\/1\.1 503 Service Unavailable\r\n/)
  t.match(await rig.recorded(1), { attempts: 3, reason: 'instance-refused', status: 503 })
  t.equal(rig.upstreams[3]?.attempts, 0)
})

t.test('an idempotent request is sent again when nothing has come back', async (t) => {
  for (const text of [
    request('GET'),
    request('HEAD'),
    request('OPTIONS'),
    request('DELETE'),
    request('PUT', 'x'.repeat(65_536)),
    'PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n1\r\n!\r\n0\r\nX-Sum: 1\r\n\r\n',
  ]) {
    const [bad, good] = await servers(t, 2)
    const rig = await rigOf(t, [bad?.port ?? 0, good?.port ?? 0])
    const caller = await rig.call(text)
    const { length } = text.slice(text.indexOf('\r\n\r\n') + 4)
    const first = await bad?.peer(0)
    await first?.until((one) => one.bytes > length + 100)
    first?.socket.resetAndDestroy()
    const second = await good?.peer(0)
    await second?.until((one) => one.text.length >= (first?.text.length ?? 0))
    const unchunked = (heard = '') =>
      heard.replaceAll(/[0-9a-f]+\r\n(?=.)|\r\n(?=[0-9a-f]+\r\n)/g, '')
    t.equal(unchunked(second?.text), unchunked(first?.text), text.slice(0, 6))
    second?.write('HTTP/1.1 204 No\r\n\r\n')
    await caller.until('204')
    t.match(await rig.recorded(1), { attempts: 2, reason: 'ok', status: 204 })
    t.same(
      rig.upstreams.map(({ results }) => results.join()),
      ['reset', 'ok'],
    )
  }
})

t.test('a body that is still on its way goes on to the second instance', async (t) => {
  const [bad, good] = await servers(t, 2)
  const rig = await rigOf(t, [bad?.port ?? 0, good?.port ?? 0])
  const caller = await rig.call('PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfirst')
  const first = await bad?.peer(0)
  await first?.until('first')
  first?.socket.destroy()
  const second = await good?.peer(0)
  await second?.until('first')
  caller.write('later')
  await second?.until('firstlater')
  second?.write(ok)
  await caller.until('ok')
  t.match(await rig.recorded(1), { attempts: 2, reason: 'ok' })
})

t.test('nothing is sent again that may have been executed', async (t) => {
  const tooMuch = 'x'.repeat(65_537)
  const cases: readonly (readonly [string, string, string, number])[] = [
    ['POST', request('POST', 'once'), '', 502],
    ['PATCH', request('PATCH', 'once'), '', 502],
    ['an unknown method', request('QUERY', 'once'), '', 502],
    ['more than is held', request('PUT', tooMuch), '', 502],
    ['part of a head came back', request('GET'), 'HTTP/1.1 2', 502],
    ['an interim response', request('GET'), 'HTTP/1.1 103 Early\r\n\r\n', 502],
  ]
  for (const [what, text, answer, status] of cases) {
    const [bad, good] = await servers(t, 2)
    const rig = await rigOf(t, [bad?.port ?? 0, good?.port ?? 0])
    const caller = await rig.call(text)
    const { length } = text.slice(text.indexOf('\r\n\r\n') + 4)
    const first = await bad?.peer(0)
    await first?.until((one) => one.bytes > length + 100)
    if (answer !== '') first?.write(answer)
    if (answer.includes('103')) await caller.until('103')
    first?.end()
    t.match(await caller.until('instance-aborted'), `HTTP/1.1 ${status} Bad Gateway`, what)
    t.match(await rig.recorded(1), { attempts: 1, status, reason: 'instance-aborted' }, what)
    t.equal(good?.peers.length, 0, what)
    t.same(rig.upstreams[0]?.results, ['reset'], what)
  }
})

t.test('a body in very many pieces is not held, so that holding stays cheap', async (t) => {
  const [bad, good] = await servers(t, 2)
  const rig = await rigOf(t, [bad?.port ?? 0, good?.port ?? 0])
  const caller = await rig.call('PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n')
  const first = await bad?.peer(0)
  await first?.until('\r\n\r\n')
  const head = first?.bytes ?? 0
  for (let i = 0; i < 300; i++) {
    caller.write('x')
    await first?.until((one) => one.bytes > head + i)
  }
  first?.end()
  await caller.until('instance-aborted')
  t.equal(good?.peers.length, 0)
})

t.test('a half response is a reset for the caller, and never repeated', async (t) => {
  const [bad, good] = await servers(t, 2)
  const rig = await rigOf(t, [bad?.port ?? 0, good?.port ?? 0])
  const caller = await rig.call(request('GET'))
  const first = await bad?.peer(0)
  await first?.until('\r\n\r\n')
  first?.write('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf')
  await caller.until('half')
  first?.end()
  await caller.untilClosed()
  t.equal(caller.error, 'ECONNRESET')
  t.match(await rig.recorded(1), { reason: 'instance-aborted', status: 200, attempts: 1 })
  t.equal(good?.peers.length, 0)
})

t.test('a kept channel that was closed is replaced for GET, and not for POST', async (t) => {
  for (const method of ['GET', 'POST']) {
    const [server] = await servers(t, 1)
    const port = server?.port ?? 0
    const rig = await rigOf(t, [port, port])
    const caller = await rig.call(request('GET'))
    const first = await server?.peer(0)
    await first?.until('\r\n\r\n')
    first?.write(ok)
    await rig.until(() => rig.upstreams[0]?.pool.idle === 1)
    // The service closes at the very moment it hears the second request.
    first?.socket.once('data', () => first.socket.destroy())
    caller.write(request(method, method === 'POST' ? 'once' : ''))
    if (method === 'GET') {
      const second = await server?.peer(1)
      await second?.until('\r\n\r\n')
      second?.write(ok)
      await caller.until((one) => one.text.split('200 OK').length === 3)
      t.match(await rig.recorded(2), { attempts: 2, reason: 'ok' })
    } else {
      await caller.until('instance-aborted')
      t.match(await rig.recorded(2), { attempts: 1, reason: 'instance-aborted', status: 502 })
      t.equal(server?.peers.length, 1)
    }
  }
})

t.test(
  'a peer agent’s word that the instance got nothing sends any method elsewhere',
  async (t) => {
    for (const reason of ['instance-refused', 'draining', 'overloaded']) {
      const [bad, good] = await servers(t, 2)
      const rig = await rigOf(t, [bad?.port ?? 0, good?.port ?? 0], {}, true)
      const caller = await rig.call(request('POST', 'once'))
      const first = await bad?.peer(0)
      await first?.until('once')
      first?.write(
        `HTTP/1.1 503 Service Unavailable\r\nx-mesh-reason: ${reason}\r\nContent-Length: 2\r\n\r\n{}`,
      )
      const second = await good?.peer(0)
      await second?.until('once')
      second?.write(ok)
      t.match(await caller.until('ok'), /^HTTP\/1\.1 200 OK/)
      t.match(await rig.recorded(1), { attempts: 2, reason: 'ok', instance: 'i2' }, reason)
      t.same(rig.upstreams[0]?.results, [reason === 'overloaded' ? 'abandoned' : 'connect-failed'])
    }
  },
)

t.test(
  'what a peer agent says otherwise, or a service says at all, goes to the caller',
  async (t) => {
    const cases = [
      { mtls: false, status: '503 X', reason: 'draining', recorded: 'ok', passed: false },
      {
        mtls: true,
        status: '503 X',
        reason: 'no-instances',
        recorded: 'no-instances',
        passed: true,
      },
      { mtls: true, status: '200 X', reason: 'draining', recorded: 'draining', passed: true },
      {
        mtls: true,
        status: '503 X',
        reason: 'instance-aborted',
        recorded: 'instance-aborted',
        passed: true,
      },
      { mtls: true, status: '503 X', reason: 'constructor', recorded: 'ok', passed: true },
    ]
    for (const { mtls, status, reason, recorded, passed } of cases) {
      const [bad, good] = await servers(t, 2)
      const rig = await rigOf(t, [bad?.port ?? 0, good?.port ?? 0], {}, mtls)
      const caller = await rig.call(request('GET'))
      const first = await bad?.peer(0)
      await first?.until('\r\n\r\n')
      first?.write(`HTTP/1.1 ${status}\r\nx-mesh-reason: ${reason}\r\nContent-Length: 2\r\n\r\n{}`)
      const heard = await caller.until('{}')
      t.equal(heard.includes(`x-mesh-reason: ${reason}`), passed, reason)
      t.match(await rig.recorded(1), { attempts: 1, reason: recorded }, reason)
      t.equal(good?.peers.length, 0, reason)
      t.equal(rig.upstreams[0]?.results.length, 1, reason)
    }
  },
)

t.test(
  'what a peer agent has lost with its instance is repeated from here, if it may',
  async (t) => {
    for (const method of ['GET', 'PUT', 'POST']) {
      const [bad, good] = await servers(t, 2)
      const rig = await rigOf(t, [bad?.port ?? 0, good?.port ?? 0], {}, true)
      const caller = await rig.call(request(method, method === 'GET' ? '' : 'once'))
      const first = await bad?.peer(0)
      await first?.until(method === 'GET' ? '\r\n\r\n' : 'once')
      first?.write(
        'HTTP/1.1 502 Bad Gateway\r\nx-mesh-reason: instance-aborted\r\nContent-Length: 2\r\n\r\n{}',
      )
      if (method === 'POST') {
        await caller.until('x-mesh-reason: instance-aborted')
        t.match(await rig.recorded(1), { attempts: 1, reason: 'instance-aborted', status: 502 })
        t.equal(good?.peers.length, 0)
        continue
      }
      const second = await good?.peer(0)
      await second?.until(method === 'GET' ? '\r\n\r\n' : 'once')
      second?.write(ok)
      t.match(await caller.until('ok'), /^HTTP\/1\.1 200 OK/)
      t.match(await rig.recorded(1), { attempts: 2, reason: 'ok', instance: 'i2' }, method)
      t.same(rig.upstreams[0]?.results, ['reset'])
    }
  },
)

t.test('a peer agent’s refusal with nowhere to go is passed on whole, counted once', async (t) => {
  const [only] = await servers(t, 1)
  const rig = await rigOf(t, [only?.port ?? 0], {}, true)
  const caller = await rig.call(request('GET'))
  const first = await only?.peer(0)
  await first?.until('\r\n\r\n')
  first?.write('HTTP/1.1 503 X\r\nx-mesh-reason: draining\r\nContent-Length: 10\r\n\r\nfirst')
  await caller.until('first')
  first?.write('later')
  await caller.until('firstlater')
  t.match(await rig.recorded(1), { reason: 'draining', status: 503, attempts: 1 })
  t.equal(rig.upstreams[0]?.attempts, 1)
  t.equal(rig.upstreams[0]?.results.length, 1)
})

t.test('a repeat takes no kept channel, which may be as old as the one that failed', async (t) => {
  const [good] = await servers(t, 1)
  const rig = await rigOf(t, [1, good?.port ?? 0])
  const [first, second] = rig.upstreams
  const [stale, alsoStale] = [new FakeChannel(), new FakeChannel()]
  if (first !== undefined) first.takeIdle = () => stale
  if (second !== undefined) second.takeIdle = () => alsoStale
  const caller = await rig.call(request('GET'))
  await until('the kept channel is used', () => stale.heard !== '')
  stale.close(null)
  const peer = await good?.peer(0)
  await peer?.until('\r\n\r\n')
  peer?.write(ok)
  await caller.until('ok')
  t.equal(alsoStale.heard, '')
  t.match(await rig.recorded(1), { attempts: 2, reason: 'ok' })
})

t.test('at each address a service outside is called by the name it has there', async (t) => {
  const [good] = await servers(t, 1)
  const names = new Set(['one.example', 'two.example'])
  const rig = await RelayRig.start(t, {
    upstreams: [
      { port: await deadPort(), name: 'i1', outside: { authority: 'one.example', names } },
      { port: good?.port ?? 0, name: 'i2', outside: { authority: 'two.example', names } },
    ],
  })
  const caller = await rig.call('GET / HTTP/1.1\r\nHost: api.mesh\r\nX-Mesh-Source: me\r\n\r\n')
  const peer = await good?.peer(0)
  await peer?.until((one) => one.text.includes('\r\n\r\n'))
  t.match(peer?.text, /^GET \/ HTTP\/1\.1\r\nhost: two\.example\r\n/)
  t.notMatch(peer?.text, /one\.example|mesh/)
  peer?.write(ok)
  await caller.until((one) => one.text.endsWith('ok'))
})

t.test('no request goes to another tenant of a service outside', async (t) => {
  const [good] = await servers(t, 1)
  const outside = { authority: 'api.example', names: new Set(['api.example']) }
  const rig = await RelayRig.start(t, { upstreams: [{ port: good?.port ?? 0, outside }] })
  const caller = await rig.call('GET / HTTP/1.1\r\nHost: other.example\r\n\r\n')
  await caller.until((one) => one.text.includes('not-mesh-name'))
  t.match(caller.text, /^HTTP\/1\.1 403 .*may not name \\"other\.example\\"/s)
  t.equal(rig.upstreams[0]?.attempts, 0)
})
