import t from 'tap'
import { readManifest } from '#shared/schema/manifest.ts'
import { renderProblem } from '#shared/schema/problem.ts'

const read = (manifest: object) =>
  readManifest('/etc/mesh.d/api.json', Buffer.from(JSON.stringify(manifest)))
const problems = (manifest: object): string => {
  const reading = read(manifest)
  return reading.ok ? '' : reading.problems.map(renderProblem).join('\n')
}
const external = { addresses: ['api.example.com'], port: 443 }

t.test('an external service is bytes to its addresses, and has no port here', async (t) => {
  const reading = read({
    external: { addresses: ['API.example.com.', '203.0.113.5', 'FD00::5'], port: 443 },
    intercept: ['api.example.com:443'],
    onAgentDown: 'deny',
    allow: ['web'],
  })
  if (!reading.ok) throw new Error(problems({ external }))
  const { manifest } = reading
  t.strictSame(manifest.external, {
    addresses: ['api.example.com', '203.0.113.5', 'fd00::5'],
    port: 443,
    tls: null,
    connectTimeoutMs: 3000,
    places: { 'api.example.com': '1:27', '203.0.113.5': '1:46', 'fd00::5': '1:60' },
  })
  t.match(manifest, {
    service: 'api',
    protocol: 'tcp',
    onAgentDown: 'deny',
    policy: { mode: 'enforce' },
  })
  t.equal(manifest.port, undefined)
})

t.test('the agent speaks TLS where it is told to', async (t) => {
  const tlsOf = (tls: unknown) => {
    const reading = read({ external: { ...external, tls }, protocol: 'http' })
    return reading.ok
      ? reading.manifest.external?.tls
      : problems({ external: { ...external, tls } })
  }
  t.strictSame(tlsOf(true), {})
  t.strictSame(tlsOf(false), null)
  t.strictSame(tlsOf({ serverName: 'db.example.com', caFile: '/etc/own.pem' }), {
    serverName: 'db.example.com',
    caFile: '/etc/own.pem',
  })
  t.strictSame(tlsOf({ certFile: '/etc/own.pem', keyFile: '/etc/key.pem' }), {
    certFile: '/etc/own.pem',
    keyFile: '/etc/key.pem',
  })
  t.match(tlsOf({ certFile: '/etc/own.pem' }), /certFile proves nothing without keyFile/)
  t.match(tlsOf({ keyFile: '/etc/own.pem' }), /keyFile proves nothing without certFile/)
  t.match(tlsOf({ caFile: 'own.pem' }), /caFile/)
  t.match(tlsOf({ serverName: '*.example.com' }), /serverName/)
})

t.test('what is wrong with an external service is named where it stands', async (t) => {
  const at = (address: string): string =>
    problems({ external: { ...external, addresses: [address] } })
  t.match(at('api.example.com:443'), /neither an IP address nor a DNS name/)
  for (const own of [
    '127.0.0.1',
    '::1',
    '0.0.0.0',
    '169.254.169.254',
    '240.240.0.9',
    '::ffff:127.0.0.1',
  ])
    t.match(at(own), /no address of another machine/, own)
  t.match(at('orders.mesh'), /not outside the mesh/)
  t.match(at('localhost'), /not outside the mesh/)
  t.match(
    problems({ external: { ...external, addresses: ['a.example', 'a.example'] } }),
    /given twice/,
  )
  t.match(problems({ external: { port: 443 } }), /addresses/)
  t.match(problems({ external: { ...external, addresses: [] } }), /addresses/)
  for (const key of [
    'port',
    'weight',
    'health',
    'run',
    'inbound',
    'upstreams',
    'drainMs',
    'maxConcurrent',
  ]) {
    const value = {
      port: 80,
      weight: 5,
      health: {},
      run: { user: 'x' },
      inbound: 'off',
      upstreams: {},
    }
    const manifest = { external, [key]: (value as Record<string, unknown>)[key] ?? 5 }
    t.match(
      problems(manifest),
      new RegExp(`${key} has no effect in the manifest of an external service`),
    )
  }
  t.match(
    problems({ external: { ...external, tls: true }, intercept: ['api.example.com:443'] }),
    /speak TLS themselves/,
  )
  t.equal(problems({ external: { ...external, tls: true }, intercept: ['api.example.com:80'] }), '')
})
