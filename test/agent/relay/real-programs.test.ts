import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { promisify } from 'node:util'
import t from 'tap'
import { findProgram } from '#cli/find-program.ts'
import { lacks } from '#test/support/needs.ts'
import { RelayRig } from '#test/support/relay-rig.ts'
import { testDirectory } from '#test/support/test-directory.ts'
import { until } from '#test/support/until.ts'

const run = promisify(execFile)

interface Test {
  readonly teardown: (run: () => Promise<void>) => void
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

async function answers(port: number): Promise<boolean> {
  try {
    await fetch(`http://127.0.0.1:${port}/`)
    return true
  } catch {
    return false
  }
}

function start(t: Test, program: string, args: readonly string[]): void {
  const child = spawn(program, args, { stdio: 'ignore' })
  t.teardown(async () => {
    child.kill()
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  })
}

/** nginx with a small page, a large one, and one that wants an upload. */
async function startNginx(t: Test, dir: string): Promise<number> {
  const port = await freePort()
  for (const name of ['html', 'b', 'p', 'f', 'u', 's']) mkdirSync(`${dir}/${name}`)
  writeFileSync(`${dir}/html/index.html`, 'hello from nginx\n')
  writeFileSync(`${dir}/html/big`, Buffer.alloc(8 << 20, 'x'))
  writeFileSync(
    `${dir}/nginx.conf`,
    `daemon off; master_process off; pid ${dir}/pid; error_log stderr crit;
events {}
http {
  access_log off; keepalive_requests 100000;
  client_body_temp_path ${dir}/b; proxy_temp_path ${dir}/p; fastcgi_temp_path ${dir}/f;
  uwsgi_temp_path ${dir}/u; scgi_temp_path ${dir}/s;
  server {
    listen 127.0.0.1:${port}; root ${dir}/html;
    location /zip { gzip on; gzip_min_length 1; gzip_types *; alias ${dir}/html; }
    location /small { client_max_body_size 1k; return 200 "small"; }
    location /once { keepalive_timeout 0; return 200 "once"; }
    location /moved { return 301 /; }
  }
}
`,
  )
  start(t, findProgram('nginx') ?? '', ['-p', dir, '-c', 'nginx.conf'])
  await until('nginx answers', () => answers(port))
  return port
}

t.test('curl and nginx understand each other', { skip: lacks('nginx', 'curl') }, async (t) => {
  const rig = await RelayRig.start(t, {
    upstreams: [{ port: await startNginx(t, testDirectory(t, {})) }],
  })
  const base = `http://127.0.0.1:${rig.port}`
  const curl = async (...args: string[]): Promise<string> => {
    const { stdout } = await run('curl', ['-sS', '--max-time', '20', ...args], {
      encoding: 'latin1',
      maxBuffer: 1 << 26,
    })
    return stdout
  }
  t.equal(await curl(`${base}/`), 'hello from nginx\n')
  t.equal(await curl('--http1.0', `${base}/`), 'hello from nginx\n')
  t.match(
    await curl('-I', `${base}/big`),
    /^HTTP\/1\.1 200 OK\r\n[\s\S]*content-length: 8388608\r\n/,
  )
  t.equal((await curl(`${base}/big`)).length, 8 << 20)
  t.equal((await curl('--compressed', '-H', 'TE: chunked', `${base}/zip/big`)).length, 8 << 20)
  t.equal((await curl('-r', '5-9', `${base}/`)).length, 5)
  t.match(await curl('-i', `${base}/moved`), /301[\s\S]*location: http/i)
  t.equal(await curl(`${base}/once`, `${base}/once`), 'onceonce')
  t.equal(
    await curl(...Array.from({ length: 20 }, () => `${base}/`)),
    'hello from nginx\n'.repeat(20),
  )
  t.equal(await curl('--http2', `${base}/`), 'hello from nginx\n', 'h2c is not taken up')
  const [, status] = /HTTP\/1\.1 (413)/.exec(
    await curl('-i', '--data-binary', 'x'.repeat(60_000), `${base}/small`),
  ) ?? ['', '']
  t.equal(status, '413', 'an early refusal arrives')
  t.same([...new Set(rig.outcomes.map(({ reason }) => reason))], ['ok'])
})

const pythonServer = `
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = sys.argv[2]
    def do_GET(self):
        self.send_response(200); self.send_header('Content-Length', '6'); self.end_headers(); self.wfile.write(b'python')
    def do_POST(self):
        if self.headers.get('Transfer-Encoding') == 'chunked':
            body = b''
            while True:
                size = int(self.rfile.readline(), 16)
                body += self.rfile.read(size)
                self.rfile.readline()
                if size == 0: break
        else: body = self.rfile.read(int(self.headers['Content-Length']))
        self.send_response(200); self.send_header('Transfer-Encoding', 'chunked'); self.end_headers()
        for at in range(0, len(body), 1000):
            piece = body[at:at + 1000]
            self.wfile.write(b'%x\\r\\n%s\\r\\n' % (len(piece), piece))
        self.wfile.write(b'0\\r\\n\\r\\n')
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()
`

const pythonClient = `
import http.client, sys
c = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]), timeout=20)
for i in range(3):
    c.request('GET', '/%d' % i); r = c.getresponse(); assert (r.status, r.read()) == (200, b'python')
body = bytes(range(256)) * 1000
c.request('POST', '/length', body); r = c.getresponse(); assert r.read() == body
c.request('POST', '/chunks', iter([body[:1000], body[1000:]]), encode_chunked=True, headers={'Transfer-Encoding': 'chunked'})
r = c.getresponse(); assert r.read() == body
print('done')
`

t.test(
  'Python’s client and server understand each other',
  { skip: lacks('python3') },
  async (t) => {
    const port = await freePort()
    start(t, 'python3', ['-c', pythonServer, String(port), 'HTTP/1.1'])
    await until('the server answers', () => answers(port))
    const rig = await RelayRig.start(t, { upstreams: [{ port }] })
    const { stdout } = await run('python3', ['-c', pythonClient, String(rig.port)])
    t.equal(stdout, 'done\n')
    t.equal(rig.outcomes.length, 5)
    t.same(
      [...new Set(rig.outcomes.map(({ reason, status }) => `${reason} ${status}`))],
      ['ok 200'],
    )
  },
)

t.test('a server of HTTP/1.0 serves callers of HTTP/1.1', { skip: lacks('python3') }, async (t) => {
  const port = await freePort()
  start(t, 'python3', [
    '-m',
    'http.server',
    '--bind',
    '127.0.0.1',
    '-d',
    testDirectory(t, { a: 'text' }),
    String(port),
  ])
  await until('the server answers', () => answers(port))
  const rig = await RelayRig.start(t, { upstreams: [{ port }] })
  for (let i = 0; i < 3; i++) {
    const response = await fetch(`http://127.0.0.1:${rig.port}/a`)
    t.equal(await response.text(), 'text')
  }
  t.equal(rig.upstreams[0]?.opens, 3, 'HTTP/1.0 keeps no connection')
})
