import t from 'tap'
import { RawServer } from '#test/support/raw-peer.ts'
import { RelayRig, type RigSettings } from '#test/support/relay-rig.ts'

type Test = Parameters<typeof RelayRig.start>[0]

async function rigWith(t: Test, settings: Partial<RigSettings> = {}) {
  const service = await RawServer.listen()
  t.teardown(() => service.stop())
  const rig = await RelayRig.start(t, { upstreams: [{ port: service.port }], ...settings })
  return { service, rig }
}

const host = 'Host: orders\r\n'

t.test('ambiguous bytes never reach the service: 400, a record, an end', async (t) => {
  const { service, rig } = await rigWith(t)
  const second = 'GET /smuggled HTTP/1.1\r\nHost: orders\r\n\r\n'
  const attempts = [
    `POST / HTTP/1.1\r\n${host}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${second}`,
    `POST / HTTP/1.1\r\n${host}Content-Length: 0\r\nContent-Length: ${second.length}\r\n\r\n${second}`,
    `POST / HTTP/1.1\r\n${host}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n${second}`,
    `POST / HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n`,
    `POST / HTTP/1.1\r\n${host}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n${second}`,
    `POST / HTTP/1.1\r\n${host}Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n${second}`,
    `GET / HTTP/1.1\r\n${host}X: a\r\n b\r\n\r\n`,
    `GET / HTTP/1.1\r\n${host}X: a\rY: b\r\n\r\n`,
    `GET / HTTP/1.1\r\n${host}X: a\nY: b\r\n\r\n`,
    `GET / HTTP/1.1\r\n${host}X: \0\r\n\r\n`,
    `GET / HTTP/1.1\n${host}\n\n`,
    `GET / HTTP/1.1\r\n${host}${host}\r\n`,
    `GET / HTTP/1.1\r\n\r\n`,
    `GET http://other/ HTTP/1.1\r\n${host}\r\n`,
    `GET / HTTP/2.0\r\n${host}\r\n`,
    `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`,
    `GET /a b HTTP/1.1\r\n${host}\r\n`,
    `GET / HTTP/1.1\r\n${host}Expect: something\r\n\r\n`,
  ]
  for (const [index, text] of attempts.entries()) {
    const caller = await rig.call(text)
    const heard = await caller.untilEnd()
    t.match(heard, /^HTTP\/1\.1 400 Bad Request\r\n/, JSON.stringify(text))
    t.match(heard, 'connection: close\r\n')
    t.equal(heard.split('HTTP/1.1 400').length, 2, 'one answer')
    t.match(await rig.recorded(index + 1), { reason: 'bad-request', status: 400, attempts: 0 })
  }
  t.equal(service.peers.length, 0)
})

t.test('a body whose framing breaks takes the request with it', async (t) => {
  for (const body of [
    'zz\r\n',
    '5;ext=1\r\nhello\r\n0\r\n\r\n',
    '5\r\nhelloX\r\n0\r\n\r\n',
    '5\nhello',
  ]) {
    const { service, rig } = await rigWith(t)
    const caller = await rig.call(`POST / HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\n`)
    const peer = await service.peer(0)
    await peer.until('\r\n\r\n')
    caller.write(`${body}GET /smuggled HTTP/1.1\r\n${host}\r\n`)
    t.match(await caller.untilEnd(), /^HTTP\/1\.1 400 [\s\S]*"bad-request"/)
    await peer.untilClosed()
    t.notMatch(peer.text, /smuggled|0\r\n\r\n/)
    t.match(await rig.recorded(1), { reason: 'bad-request' })
    t.same(rig.upstreams[0]?.results, ['abandoned'])
  }
})

t.test('bytes that cannot be HTTP are told so at once', async (t) => {
  const { service, rig } = await rigWith(t)
  for (const text of ['\x16\x03\x01\x02\x00\x01', '\0', '\xff', ' GET', '\r\n\r\nGET']) {
    const caller = await rig.call(text)
    t.match(await caller.untilEnd(), /^HTTP\/1\.1 400 [\s\S]*x-mesh-reason: not-http/)
  }
  t.equal(service.peers.length, 0)
})

t.test('one empty line before a request is passed over', async (t) => {
  const { service, rig } = await rigWith(t)
  await rig.call(`\r\nGET / HTTP/1.1\r\n${host}\r\n`)
  t.match(await (await service.peer(0)).until('\r\n\r\n'), /^GET \/ HTTP/)
})

t.test('CONNECT and TRACE are refused by name, with what is allowed', async (t) => {
  const { service, rig } = await rigWith(t)
  for (const text of [
    `CONNECT orders.mesh:80 HTTP/1.1\r\nHost: orders.mesh:80\r\n\r\nearly`,
    `TRACE / HTTP/1.1\r\n${host}Connection: close\r\n\r\n`,
  ]) {
    const heard = await (await rig.call(text)).untilEnd()
    t.match(heard, /^HTTP\/1\.1 405 Method Not Allowed\r\n[\s\S]*x-mesh-reason: method-refused/)
    t.match(heard, /\r\nallow: GET, /)
  }
  t.equal(service.peers.length, 0)
})

t.test('limits of the head are told with 431', async (t) => {
  const { service, rig } = await rigWith(t)
  for (const text of [
    `GET / HTTP/1.1\r\n${host}X: ${'x'.repeat(70_000)}\r\n\r\n`,
    `GET /${'x'.repeat(70_000)}`,
    `GET / HTTP/1.1\r\n${host}${'X: y\r\n'.repeat(100)}\r\n`,
  ]) {
    t.match(
      await (await rig.call(text)).untilEnd(),
      /^HTTP\/1\.1 431 Request Header Fields Too Large\r\n/,
    )
  }
  t.equal(service.peers.length, 0)
})

t.test('responses that are not strict HTTP/1.1 become 502 and end the channel', async (t) => {
  const wrong = [
    'nonsense\r\n\r\n',
    'HTTP/1.1 200 OK\nContent-Length: 0\n\n',
    'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n',
    'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n',
    'HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n',
    `HTTP/1.1 200 OK\r\nX: ${'x'.repeat(70_000)}`,
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
  ]
  for (const answer of wrong) {
    const { service, rig } = await rigWith(t)
    const caller = await rig.call(`GET / HTTP/1.1\r\n${host}\r\n`)
    const peer = await service.peer(0)
    await peer.until('\r\n\r\n')
    peer.write(answer)
    t.match(await caller.until('bad-response'), /^HTTP\/1\.1 502 Bad Gateway/, answer.slice(0, 60))
    await peer.untilClosed()
    t.match(await rig.recorded(1), { reason: 'bad-response', status: 502 })
    t.same(rig.upstreams[0]?.results, ['reset'])
    caller.write(`GET /next HTTP/1.1\r\n${host}\r\n`)
    const other = await service.peer(1)
    await other.until('GET /next')
    other.write('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext')
    t.match(await rig.recorded(2), { reason: 'ok', status: 200 }, 'nothing of it is left')
  }
})

t.test('a response that breaks under way is a reset', async (t) => {
  const { service, rig } = await rigWith(t)
  const caller = await rig.call(`GET / HTTP/1.1\r\n${host}\r\n`)
  const peer = await service.peer(0)
  await peer.until('\r\n\r\n')
  peer.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n')
  await caller.until('good')
  peer.write('zz\r\n')
  await caller.untilClosed()
  t.equal(caller.error, 'ECONNRESET')
  t.notMatch(caller.text, /0\r\n\r\n$/)
  t.match(await rig.recorded(1), { reason: 'bad-response', status: 200 })
})

t.test('a refusal by the journey keeps the connection where no body is under way', async (t) => {
  const { service, rig } = await rigWith(t, {
    decide: () => ({
      kind: 'refuse',
      reason: 'policy-denied',
      detail: 'rule “deny-all” (file x.json)',
      service: null,
      destination: null,
      rule: null,
    }),
  })
  const caller = await rig.call(`GET / HTTP/1.1\r\n${host}\r\nGET / HTTP/1.1\r\n${host}\r\n`)
  await caller.until((one) => one.text.split('403 Forbidden').length === 3)
  t.notMatch(caller.text, 'connection: close')
  caller.write(`POST / HTTP/1.1\r\n${host}Content-Length: 5\r\n\r\n`)
  await caller.untilEnd()
  t.match(caller.text, 'connection: close')
  t.equal(service.peers.length, 0)
  t.equal(rig.outcomes.length, 3)
  t.match(rig.outcomes[0], { reason: 'policy-denied', status: 403, attempts: 0, host: null })
})

t.test('a flood of refused requests whose answers nobody reads is not taken', async (t) => {
  const { FakeChannel } = await import('#test/support/fake-channel.ts')
  const { rig } = await rigWith(t, {
    decide: () => ({
      kind: 'refuse',
      reason: 'unknown-service',
      detail: 'x',
      service: null,
      destination: null,
      rule: null,
    }),
  })
  const caller = new FakeChannel()
  caller.full = true
  rig.relay(caller).start()
  caller.says(`GET / HTTP/1.1\r\n${host}\r\n`.repeat(1000))
  t.equal(caller.heard.split('HTTP/1.1 404').length - 1, 1)
  t.ok(caller.paused)
  caller.drains()
  t.equal(caller.heard.split('HTTP/1.1 404').length - 1, 1000)
  t.notOk(caller.paused)
  caller.close(null)
})

t.test(
  'a response that policy no longer allows is cut; later requests meet the rule itself',
  async (t) => {
    const { service, rig } = await rigWith(t)
    const caller = await rig.call(`GET / HTTP/1.1\r\n${host}\r\n`)
    const peer = await service.peer(0)
    await peer.until('\r\n\r\n')
    peer.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n')
    await caller.until('good')
    const ref = { rule: 'deny[0]', file: '/p.json', line: 3 }
    rig.refusal = { reason: 'policy-denied', ref, detail: 'no' }
    rig.watch.reconsider()
    await caller.untilClosed()
    t.equal(caller.error, 'ECONNRESET')
    t.match(await rig.recorded(1), { reason: 'policy-denied', rule: ref, status: 200 })
  },
)

t.test('each limit that is set counts, and says which it was', async (t) => {
  const head = { maxBytes: 2000, maxFields: 12 }
  const { service, rig } = await rigWith(t, { relay: { head } })
  const fields = (count: number) =>
    Array.from({ length: count }, (_, i) => `X-${i}: v\r\n`).join('')
  const largest = `GET / HTTP/1.1\r\n${host}X: ${'x'.repeat(1967)}\r\n\r\n`
  for (const text of [
    `GET / HTTP/1.1\r\n${host}${fields(12)}\r\n`,
    largest.replace('X: ', 'X: x'),
    // Nobody waits for the end of what is too large already.
    `GET / HTTP/1.1\r\n${host}X: ${'x'.repeat(2000)}`,
  ]) {
    const heard = await (await rig.call(text)).untilEnd()
    t.match(heard, /^HTTP\/1\.1 431 [\s\S]*x-mesh-reason: head-too-large/)
  }
  t.equal(service.peers.length, 0)
  await rig.call(`GET /fields HTTP/1.1\r\n${host}${fields(11)}\r\n`)
  await (await service.peer(0)).until('GET /fields')
  await rig.call(largest)
  await (await service.peer(1)).until('xxx\r\n')
})

t.test('what one agent lets pass is not too large for the next', async (t) => {
  const head = { maxBytes: 4096, maxFields: 20 }
  const service = await RawServer.listen()
  t.teardown(() => service.stop())
  const callee = await RelayRig.start(t, {
    upstreams: [{ port: service.port }],
    direction: 'inbound',
    relay: { head },
  })
  const caller = await RelayRig.start(t, {
    upstreams: [{ port: callee.port, mtls: true }],
    relay: { head },
  })
  const fields = (count: number) =>
    Array.from({ length: count }, (_, i) => `X-${i}: v\r\n`).join('')
  const full = (start: string, count: number) => {
    const rest = `${start}${fields(count)}`
    return `${rest}X: ${'x'.repeat(4096 - rest.length - 5)}\r\n\r\n`
  }
  const peer = await caller.call(full(`GET / HTTP/1.1\r\n${host}`, 18))
  const serviceSide = await service.peer(0)
  await serviceSide.until('x-mesh-source')
  serviceSide.write(full('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n', 18))
  serviceSide.write('0\r\n\r\n')
  t.match(await peer.until('0\r\n\r\n'), /^HTTP\/1\.1 200 OK\r\n/)
  // A service's own head has no such room.
  const second = await caller.call(`GET /second HTTP/1.1\r\n${host}\r\n`)
  await serviceSide.until('GET /second')
  serviceSide.write(full('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n', 20))
  t.match(await second.until('bad-response'), /^HTTP\/1\.1 502 /)
})
