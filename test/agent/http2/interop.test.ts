/** Our framing against implementations that are not ours: Node's own, nghttp2's tools and curl. */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import {
  connect as connectNode,
  createServer as createNodeServer,
  type ServerHttp2Stream,
} from 'node:http2'
import { createServer as createTcpServer, connect as connectTcp, type AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { type ConnectionOwner, Http2Connection } from '#agent/http2/connection.ts'
import { headerField } from '#agent/http2/header-field.ts'
import type { ResponseHead } from '#agent/http2/header-rules.ts'
import type { Http2Stream } from '#agent/http2/stream.ts'
import { systemClock } from '#shared/lifecycle/clock.ts'
import { findProgram } from '#cli/find-program.ts'
import { lacks } from '#test/support/needs.ts'
import { RecordedSink } from '#test/support/recorded-channel.ts'
import { startH2specServer } from '#test/conformance/h2spec-server.ts'
import { testDirectory } from '#test/support/test-directory.ts'

const quiet: ConnectionOwner = {
  onStream() {},
  onSettings() {},
  onGoaway() {},
  onStreamEnd() {},
  onClose() {},
}
const megabyte = 1024 * 1024

/** Serves with our framing on a loopback port. */
async function serve(t: Test, onStream: (stream: Http2Stream) => void): Promise<number> {
  const server = createTcpServer({ noDelay: true }, (socket) => {
    const parts = { socket, clock: systemClock, owner: { ...quiet, onStream } }
    const connection = new Http2Connection(parts, { role: 'server' })
    t.teardown(() => connection.close('the test is over'))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return (server.address() as AddressInfo).port
}

/** Opens a connection with our framing to a loopback port. */
async function dial(t: Test, port: number): Promise<Http2Connection> {
  const socket = connectTcp({ port, host: '127.0.0.1', noDelay: true })
  await once(socket, 'connect')
  const parts = { socket, clock: systemClock, owner: quiet }
  const connection = new Http2Connection(parts, { role: 'client' })
  t.teardown(() => connection.close('the test is over'))
  return connection
}

interface Asked {
  readonly stream: Http2Stream
  readonly sink: RecordedSink
  readonly response: Promise<ResponseHead>
  readonly trailers: Map<string, string>
}

function ask(connection: Http2Connection, method: string, path: string): Asked {
  const sink = new RecordedSink()
  const trailers = new Map<string, string>()
  const { promise: response, resolve } = Promise.withResolvers<ResponseHead>()
  const heads = {
    onResponse: (_: Http2Stream, head: ResponseHead) => resolve(head),
    onTrailers: (_: Http2Stream, fields: readonly { name: string; value: string }[]) => {
      for (const { name, value } of fields) trailers.set(name, value)
    },
  }
  const fields =
    method === 'CONNECT'
      ? [headerField(':method', method), headerField(':authority', path)]
      : [
          headerField(':method', method),
          headerField(':scheme', 'http'),
          headerField(':authority', '127.0.0.1'),
          headerField(':path', path),
        ]
  const stream = connection.open(fields, { sink, heads })
  if (stream === null) throw new Error('no room for a stream')
  return { stream, sink, response, trailers }
}

/** Grants a stream and sends back what comes; a request is told at the end that this was all. */
function echo(stream: Http2Stream): void {
  stream.sendHeaders([headerField(':status', '200')], false)
  stream.sink = {
    onData: (chunk) => {
      if (!stream.write(chunk)) stream.pause()
    },
    onEnd: () =>
      stream.end(stream.request?.method === 'CONNECT' ? null : [headerField('x-sum', 'done')]),
    onDrain: () => stream.resume(),
    onClose() {},
  }
}

/** Runs a program; answers what it wrote, and fails with it. */
async function run(program: string, ...words: readonly string[]): Promise<string> {
  const child = spawn(findProgram(program) ?? program, words, { stdio: ['ignore', 'pipe', 'pipe'] })
  let text = ''
  child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')))
  child.stderr.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')))
  const [code] = (await once(child, 'close')) as [number]
  if (code !== 0) throw new Error(`${program} left with ${code}: ${text}`)
  return text
}

t.test('a node:http2 client tunnels megabytes both ways through our server', async (t) => {
  const port = await serve(t, echo)
  const session = connectNode(`http://127.0.0.1:${port}`)
  t.teardown(() => session.destroy())
  const sent = Buffer.alloc(4 * megabyte, 'abcdefg')
  for (const [head, sum] of [
    [{ ':method': 'CONNECT', ':authority': 'orders.mesh:80' }, undefined],
    [{ ':method': 'POST', ':path': '/' }, 'done'],
  ] as const) {
    const stream = session.request(head)
    stream.end(sent)
    const chunks: Buffer[] = []
    stream.on('data', (chunk: Buffer) => chunks.push(chunk))
    let trailers: Readonly<Record<string, unknown>> = {}
    stream.on('trailers', (fields) => (trailers = fields))
    await once(stream, 'end')
    t.equal(trailers['x-sum'], sum)
    t.ok(Buffer.concat(chunks).equals(sent))
  }
})

t.test('a node:http2 client runs a thousand streams at once over our server', async (t) => {
  const port = await serve(t, echo)
  const session = connectNode(`http://127.0.0.1:${port}`)
  t.teardown(() => session.destroy())
  const texts = await Promise.all(
    Array.from({ length: 900 }, async (_, i) => {
      const stream = session.request({ ':method': 'POST', ':path': '/' })
      stream.end(`stream ${i}`)
      let text = ''
      for await (const chunk of stream) text += String(chunk)
      return text
    }),
  )
  t.same(
    texts,
    texts.map((_, i) => `stream ${i}`),
  )
})

t.test('our client tunnels megabytes both ways through a node:http2 server', async (t) => {
  const server = createNodeServer()
  server.on('stream', (stream: ServerHttp2Stream, headers) => {
    const waitForTrailers = headers[':method'] !== 'CONNECT'
    stream.respond({ ':status': 200, 'x-method': headers[':method'] }, { waitForTrailers })
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': 'done' }))
    stream.pipe(stream)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const connection = await dial(t, (server.address() as AddressInfo).port)
  const asked = [
    ask(connection, 'CONNECT', 'orders.mesh:80'),
    ask(connection, 'CONNECT', 'orders.mesh:80'),
    ask(connection, 'POST', '/'),
  ]
  const sent = Buffer.alloc(2 * megabyte, '0123456')
  await Promise.all(
    asked.map(async ({ stream, sink, response, trailers }, index) => {
      t.equal((await response).status, 200)
      stream.write(sent)
      stream.end()
      await sink.until((heard) => heard.closed !== undefined)
      t.ok(Buffer.concat(sink.chunks).equals(sent))
      t.equal(trailers.get('x-sum'), index < 2 ? undefined : 'done')
      t.equal(sink.closed, null)
    }),
  )
})

t.test('our client hears a node:http2 server reset a stream and go away', async (t) => {
  const server = createNodeServer()
  server.on('stream', (stream) => {
    stream.on('error', () => {})
    stream.close(2)
  })
  server.on('session', (session) => session.once('stream', () => session.goaway(0)))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const connection = await dial(t, (server.address() as AddressInfo).port)
  const { sink } = ask(connection, 'CONNECT', 'orders.mesh:80')
  await sink.until((heard) => heard.closed !== undefined)
  t.match(sink.closed?.code, /^H2_/)
  t.notOk(connection.canOpen)
})

t.test('curl talks to our server', { skip: lacks('curl') }, async (t) => {
  const server = await startH2specServer()
  t.teardown(() => server.stop())
  // One request a run: Debian's curl 7.88 cannot use such a connection twice, with nghttpd neither.
  const words = ['-sv', '--http2-prior-knowledge', '-d', 'x'.repeat(100_000)]
  const text = await run('curl', ...words, `http://127.0.0.1:${server.port}/`)
  t.match(text, /Hello from/)
  t.match(text, /HTTP\/2 200/)
})

t.test('nghttp talks to our server', { skip: lacks('nghttp') }, async (t) => {
  const server = await startH2specServer()
  t.teardown(() => server.stop())
  const url = `http://127.0.0.1:${server.port}/`
  const text = await run('nghttp', '-nv', url, url)
  t.match(text, /:status: 200/)
  t.notMatch(text, /error_code=(?!NO_ERROR)/)
})

t.test('h2load loads our server without one failure', { skip: lacks('h2load') }, async (t) => {
  const server = await startH2specServer()
  t.teardown(() => server.stop())
  const url = `http://127.0.0.1:${server.port}/`
  const text = await run('h2load', '-n5000', '-c4', '-m50', url)
  t.match(text, /5000 total, 5000 started, 5000 done, 5000 succeeded, 0 failed, 0 errored/)
})

t.test('our client fetches a file from nghttpd', { skip: lacks('nghttpd') }, async (t) => {
  const content = Buffer.alloc(3 * megabyte, 'nghttp2 ')
  const dir = testDirectory(t, {})
  writeFileSync(`${dir}/file`, content)
  const probe = createTcpServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as AddressInfo
  probe.close()
  await once(probe, 'close')
  const words = ['--no-tls', '-a', '127.0.0.1', '-d', dir, '-v', String(port)]
  const child = spawn(findProgram('nghttpd') ?? '', words, { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill())
  await once(child.stdout, 'data')
  const connection = await dial(t, port)
  const asked = Array.from({ length: 3 }, () => ask(connection, 'GET', '/file'))
  await Promise.all(
    asked.map(async ({ stream, sink, response }) => {
      stream.end()
      const head = await response
      t.equal(head.status, 200)
      t.equal(head.contentLength, content.length)
      await sink.until((heard) => heard.ended)
      t.ok(Buffer.concat(sink.chunks).equals(content))
    }),
  )
})
