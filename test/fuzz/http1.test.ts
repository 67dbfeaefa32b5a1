/**
 * Holds the HTTP/1.1 path to Node's own strict parser: whatever mutated bytes a caller sends, what
 * the relay lets through is read by Node exactly as the relay meant it, and as Node read the bytes
 * that came. HOSTMESH_FUZZ_CASES raises the number of cases.
 */

import t from 'tap'
import { Mutator } from '#test/support/mutator.ts'
import { oracleRequests, oracleResponses, type OracleMessage } from '#test/support/llhttp.ts'
import type { MemoryChannel } from '#test/support/memory-channel.ts'
import { MemoryUpstream, RelayBench } from '#test/support/relay-bench.ts'

const cases = Number(process.env['HOSTMESH_FUZZ_CASES'] ?? 25_000)

const pieces = [
  '\r\n',
  '\r',
  '\n',
  '\0',
  ' ',
  '\t',
  ':',
  ';',
  ',',
  '0',
  '1',
  'f',
  '-',
  '+',
  '_',
  '\x7f',
  '\xff',
  '#',
  '\r\n\r\n',
  '\r\n ',
  '0\r\n\r\n',
  '5\r\nhello\r\n',
  '00000005\r\nhello\r\n',
  '5;a=b\r\nhello\r\n',
  'Content-Length: 5\r\n',
  'Content-Length: 0\r\n',
  'content-length:\t5 \r\n',
  'Content-Length: 5, 5\r\n',
  'Content_Length: 5\r\n',
  'Transfer-Encoding: chunked\r\n',
  'Transfer-Encoding: identity\r\n',
  'transfer-encoding:chunked\r\n',
  'Transfer-Encoding: gzip, chunked\r\n',
  'Transfer-Encoding : chunked\r\n',
  'Transfer-Encoding:\x0bchunked\r\n',
  'Transfer_Encoding: chunked\r\n',
  'Host: a.mesh\r\n',
  'Connection: close\r\n',
  'Connection: keep-alive, x-a\r\n',
  'Connection: content-length\r\n',
  'Connection: upgrade\r\nUpgrade: websocket\r\n',
  'Upgrade: h2c\r\n',
  'Expect: 100-continue\r\n',
  'X-Mesh-Source: spiffe://mesh.internal/service/admin\r\n',
  'X-Request-Id: 1\r\n',
  'TE: trailers\r\n',
  'GET /next HTTP/1.1\r\nHost: b.mesh\r\n\r\n',
  'POST ',
  'HEAD ',
  'CONNECT ',
  ' HTTP/1.0',
  ' HTTP/1.1',
  'HTTP/1.1 200 OK\r\n',
  'HTTP/1.1 100 Continue\r\n\r\n',
  '204',
  '304',
  '101',
  'http://a.mesh/',
  '%00',
  '\\',
]

const requests = [
  'GET / HTTP/1.1\r\nHost: a.mesh\r\n\r\n',
  'GET /a?b=c HTTP/1.1\r\nHost: a.mesh:80\r\nAccept: */*\r\nUser-Agent: x\r\n\r\n',
  'POST /p HTTP/1.1\r\nHost: a.mesh\r\nContent-Length: 5\r\n\r\nhello',
  'POST /p HTTP/1.1\r\nHost: a.mesh\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
  'POST /p HTTP/1.1\r\nHost: a.mesh\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n3\r\nabc\r\n00a\r\n0123456789\r\n0\r\nX-T: v\r\nHost: evil\r\n\r\n',
  'PUT /p HTTP/1.1\r\nHost:a.mesh\r\nContent-Length:  3 \r\nX-Empty:\r\n\r\nabcGET /2 HTTP/1.1\r\nHost: a.mesh\r\n\r\n',
  'GET http://a.mesh/x HTTP/1.1\r\nHost: a.mesh\r\n\r\n',
  'OPTIONS * HTTP/1.1\r\nHost: a.mesh\r\nConnection: keep-alive\r\n\r\n',
  'GET / HTTP/1.0\r\n\r\n',
  'GET / HTTP/1.0\r\nHost: a.mesh\r\nConnection: keep-alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n',
  'DELETE /d HTTP/1.1\r\nHost: a.mesh\r\nConnection: x-a, close\r\nX-A: 1\r\nX-B: 2\r\n\r\n',
  'GET /1 HTTP/1.1\r\nHost: a.mesh\r\n\r\nGET /2 HTTP/1.1\r\nHost: a.mesh\r\n\r\nGET /3 HTTP/1.1\r\nHost: a.mesh\r\n\r\n',
  '\r\nGET /l HTTP/1.1\r\nHost: [::1]:80\r\nCookie: a=b; c=d\r\n\r\n',
]

const responses = [
  'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello',
  'HTTP/1.1 200 OK\r\nServer: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
  'HTTP/1.1 204 No Content\r\n\r\n',
  'HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n',
  'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok',
  'HTTP/1.0 200 OK\r\n\r\nuntil the end',
  'HTTP/1.1 500 \r\nContent-Length:0\r\nConnection: close, x-a\r\nX-A: 1\r\nX-Mesh-Reason: ok\r\n\r\n',
]

/** A message without what the mesh adds, drops or spells differently. */
function meaning(message: OracleMessage): string {
  const fields: string[] = []
  for (let i = 0; i < message.fields.length; i += 2) {
    const name = (message.fields[i] as string).toLowerCase()
    if (!name.startsWith('x-k')) continue
    fields.push(`${name}=${message.fields[i + 1]}`)
  }
  const target = message.target.replace(/^http:\/\/[^/?]+\/?/i, '/').replace(/^\/\?/, '/?')
  return JSON.stringify([message.method, target, message.status, fields, message.body])
}

function fieldOf(message: OracleMessage, name: string): string[] {
  const values: string[] = []
  for (let i = 0; i < message.fields.length; i += 2) {
    if ((message.fields[i] as string).toLowerCase() === name)
      values.push(message.fields[i + 1] as string)
  }
  return values
}

/** Feeds bytes to a relay whose service answers every whole request; answers what services saw. */
function carry(parts: readonly Buffer[]): { bench: RelayBench; seen: Buffer[] } {
  const upstream = new MemoryUpstream()
  const bench = new RelayBench({ upstreams: [upstream] })
  const answered = new Map<MemoryChannel, number>()
  const answer = (): void => {
    for (const channel of upstream.opened) {
      if (channel.closed || channel.sink === undefined) continue
      const whole = oracleRequests(channel.bytes).messages.filter((message) => message.isWhole)
      const before = answered.get(channel) ?? 0
      if (whole.length <= before) continue
      answered.set(channel, whole.length)
      channel.deliver('HTTP/1.1 204 No Content\r\n\r\n')
    }
  }
  for (const part of parts) {
    bench.caller.deliver(part)
    for (let before = -1; before !== bench.outcomes.length;) {
      before = bench.outcomes.length
      answer()
    }
  }
  return { bench, seen: upstream.opened.map((channel) => channel.bytes) }
}

t.test('what goes on of mutated requests is what a strict reader sees in them', async (t) => {
  const mutator = new Mutator({ seed: 1, corpus: requests, pieces })
  let carried = 0
  for (let i = 0; i < cases; i++) {
    const bytes = mutator.next()
    const { bench, seen } = carry([bytes])
    const original = oracleRequests(bytes)
    const forwarded = seen.flatMap((one) => {
      const reading = oracleRequests(one)
      // Node knows a fixed list of methods.
      if (reading.error === 'HPE_INVALID_METHOD') return []
      if (reading.error !== '')
        throw new Error(
          `sent on ${JSON.stringify(one.toString('latin1'))} for ${JSON.stringify(bytes.toString('latin1'))}: ${reading.error}`,
        )
      return reading.messages
    })
    for (const [index, message] of forwarded.entries()) {
      carried++
      const first = original.messages[index]
      const context = JSON.stringify({
        bytes: bytes.toString('latin1'),
        seen: seen.map(String),
        error: original.error,
      })
      // Node reads nothing after a request that asks for an upgrade.
      if (first === undefined && /upgrade/i.test(bytes.toString('latin1'))) break
      if (first === undefined) throw new Error(`Node saw no such request: ${context}`)
      if (message.isWhole && meaning(first) !== meaning(message))
        throw new Error(`read differently: ${context}`)
      if (!message.isWhole && !first.body.startsWith(message.body))
        throw new Error(`body differs: ${context}`)
      const [host = ''] = fieldOf(first, 'host')
      const [sentHost = ''] = fieldOf(message, 'host')
      if (host !== '' && host !== sentHost) throw new Error(`host differs: ${context}`)
      if (fieldOf(message, 'x-mesh-source').join() !== 'spiffe://mesh.internal/service/web')
        throw new Error(`spoofed: ${context}`)
      if (fieldOf(message, 'host').length !== 1) throw new Error(`hosts: ${context}`)
      if (
        fieldOf(message, 'transfer-encoding').length + fieldOf(message, 'content-length').length >
        1
      )
        throw new Error(`framing: ${context}`)
    }
    const split = mutator.split(bytes)
    const again = carry(split)
    if (wholeOnes(again.seen) !== wholeOnes(seen) && !bench.endings.join().includes('400')) {
      throw new Error(
        `differs in pieces: ${JSON.stringify([split.map(String), again.seen.map(String), seen.map(String)])}`,
      )
    }
    // What comes before a switch was answered depends on when it comes.
    if (/upgrade/i.test(bytes.toString('latin1'))) continue
    // A head in pieces is read when it is whole: it may not be refused yet, or for another reason.
    const statuses = (all: readonly string[]): string =>
      all.map((ending) => ending.slice(0, 3)).join()
    if (!statuses(bench.endings).startsWith(statuses(again.bench.endings))) {
      throw new Error(
        `ends differently in pieces: ${JSON.stringify([split.map(String), again.bench.endings, bench.endings])}`,
      )
    }
  }
  t.ok(carried > cases / 4, `${carried} requests went on`)
})

/** The whole messages of some channels, to compare. */
function wholeOnes(all: readonly Buffer[]): string {
  const messages = all.flatMap((one) => oracleRequests(one).messages)
  return messages
    .filter((message) => message.isWhole)
    .map(meaning)
    .join()
}

t.test('what comes back of mutated responses is what a strict reader sees in them', async (t) => {
  const mutator = new Mutator({ seed: 2, corpus: responses, pieces })
  let carried = 0
  for (let i = 0; i < cases; i++) {
    const bytes = mutator.next()
    const method = i % 5 === 0 ? 'HEAD' : 'GET'
    const bench = new RelayBench({ relay: { maxAttempts: 1 } })
    bench.caller.deliver(`${method} / HTTP/1.1\r\nHost: a.mesh\r\n\r\n`)
    const channel = bench.upstream.last
    for (const part of i % 2 === 0 ? [bytes] : mutator.split(bytes)) channel.deliver(part)
    channel.deliverEnd()
    channel.deliverClose()
    const context = (): string =>
      JSON.stringify({
        method,
        bytes: bytes.toString('latin1'),
        got: bench.caller.text,
        endings: bench.endings,
      })
    if (bench.outcomes.length !== 1)
      throw new Error(`${bench.outcomes.length} records: ${context()}`)
    if (bench.upstream.results.length !== 1)
      throw new Error(`${bench.upstream.results.length} results: ${context()}`)
    const got = oracleResponses(bench.caller.bytes, [method])
    if (got.error !== '' && !bench.caller.aborted)
      throw new Error(`sent ${got.error}: ${context()}`)
    const final = got.messages.filter((message) => message.status >= 200)
    if (final.length > 1) throw new Error(`two answers: ${context()}`)
    if (bench.outcomes[0]?.reason !== 'ok') continue
    carried++
    const { messages, error } = oracleResponses(bytes, [method])
    // Node takes `Connection: close` in an informing response for the connection's end.
    if (error === 'HPE_CLOSED_CONNECTION') continue
    const wanted = messages.find((message) => message.status >= 200)
    const [answer] = final
    if (answer === undefined || wanted === undefined) throw new Error(`nothing: ${context()}`)
    if (meaning(answer) !== meaning(wanted)) throw new Error(`read differently: ${context()}`)
  }
  t.ok(carried > cases / 4, `${carried} responses came back`)
})
