import { once } from 'node:events'
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { ports } from '#cli/demo/demo-host.ts'
import { call } from '#test/support/callers.ts'
import { freePort } from '#test/support/free-port.ts'
import { MeshWorld } from '#test/support/mesh-world.ts'

// Programs start here; on a busy machine each takes seconds.
t.setTimeout(600_000)

const mesh = await MeshWorld.raise(t)
const { alpha, beta } = mesh
const port = 8080

mesh.serve(beta, 'http', 'orders', port)
mesh.serve(beta, 'echo', 'echo', 8082)
beta.dropManifest('orders', { port, address: beta.place.local, allow: ['host/alpha'] })
beta.dropManifest('echo', { port: 8082, address: beta.place.local, protocol: 'tcp' })
alpha.dropManifest('web', { upstreams: { echo: 9003 } })
await mesh.sees(alpha, 'orders', ['beta'])
await mesh.sees(beta, 'orders', ['beta'])
await mesh.sees(alpha, 'echo', ['beta'])

const ask = (from: typeof alpha, path = '/') =>
  call({
    host: from.place.local,
    port: ports.forwardProxy,
    path: `http://orders.mesh${path}`,
  })

/** Drops a policy file on beta, whole or not at all. */
function dropPolicy(name: string, policy: object): void {
  const directory = beta.path('policies.d')
  mkdirSync(directory, { recursive: true, mode: 0o755 })
  writeFileSync(`${directory}/${name}.tmp`, JSON.stringify(policy, null, 1))
  renameSync(`${directory}/${name}.tmp`, `${directory}/${name}`)
}

async function untilStatus(from: typeof alpha, path: string, status: number): Promise<void> {
  await mesh.until(`${from.name} gets ${status} for ${path}`, async () => {
    return (await ask(from, path)).status === status
  })
}

t.test('only whom the manifest allows may call, from afar and on the same host', async (t) => {
  await untilStatus(alpha, '/', 200)
  const refused = await ask(beta)
  t.equal(refused.status, 403)
  t.equal(refused.headers['x-mesh-reason'], 'policy-denied')
  const file = beta.path('mesh.d/orders.json')
  t.match(refused.body, `default deny (${file}:1): no rule allows this to`)
  await mesh.until('it is recorded', () => beta.accessLines(50).at(-1)?.reason === 'policy-denied')
  t.match(beta.accessLines(50).at(-1), { reason: 'policy-denied', rule: { file, line: 1 } })
})

t.test('a policy file judges requests, and the far agent names its rule', async (t) => {
  dropPolicy('admin.json', {
    services: ['ord*'],
    deny: [{ name: 'no-admin', paths: ['/admin/*'] }],
  })
  await untilStatus(alpha, '/admin', 403)
  const refused = await ask(alpha, '/Admin/keys')
  t.equal(refused.status, 403)
  t.match(refused.body, `no-admin (${beta.path('policies.d/admin.json')}:6)`)
  const odd = await ask(alpha, '/x/%2e%2e/admin')
  t.equal(odd.status, 400)
  t.equal(odd.headers['x-mesh-reason'], 'ambiguous-request')
  t.equal((await ask(alpha, '/orders')).status, 200)
  const target = { host: beta.place.address, port: ports.metrics, path: '/metrics' }
  const counted =
    /mesh_policy_denials_total\{.*rule="no-admin",file=".*admin\.json",mode="enforce"\} \d/
  await mesh.until('it is counted', async () => counted.test((await call(target)).body))
})

t.test('meshctl authz explain gets the same verdict from the callee’s agent', async (t) => {
  const explain = (from: typeof alpha, source: string, path: string) =>
    from.admin.explain(new URLSearchParams({ source, service: 'orders', method: 'GET', path }))
  t.match(await explain(beta, 'host/alpha', '/admin/x'), {
    kind: 'explained',
    verdict: 'denied',
    ref: { rule: 'no-admin', file: beta.path('policies.d/admin.json'), line: 6 },
  })
  t.match(await explain(beta, 'host/alpha', '/'), {
    verdict: 'permitted',
    ref: { rule: 'allow[0]' },
  })
  t.match(await explain(beta, 'web', '/'), { verdict: 'denied', ref: { rule: 'default deny' } })
  t.match(await explain(alpha, 'web', '/'), { kind: 'elsewhere', hosts: ['beta'] })
  const { services } = await beta.admin.ask('policies')
  t.match(
    services.find(({ service }) => service === 'orders'),
    {
      strict: true,
      protection: 'local-only',
    },
  )
})

t.test('a raw connection ends when its caller is no longer allowed', async (t) => {
  let socket = connect({ host: alpha.place.local, port: 9003 })
  await mesh.until('the echo answers', async () => {
    socket.destroy()
    socket = connect({ host: alpha.place.local, port: 9003 }).on('error', () => {})
    socket.write('hello')
    const [data] = (await once(socket, 'data', { signal: AbortSignal.timeout(3000) })) as [Buffer]
    return data.toString() === 'hello'
  })
  const closed = new Promise((resolve) => socket.once('close', resolve))
  dropPolicy('echo.json', { services: ['echo'], deny: [{ from: ['host/alpha'] }] })
  await closed
  const line = await lastRaw()
  t.match(line, { reason: 'policy-denied', rule: { rule: 'deny[0]' } })
})

async function lastRaw() {
  await mesh.until('it is recorded', () => found() !== undefined)
  return found()
  function found() {
    return beta
      .accessLines(100)
      .find((line) => line.reason === 'policy-denied' && line.status === 0)
  }
}

t.test('a policy file with a fault changes nothing and is told', async (t) => {
  dropPolicy('admin.json', { services: ['ord*'], deny: [{ name: 'no-admin', path: ['/admin/*'] }] })
  await mesh.until('the check fails', async () => {
    const checks = await beta.admin.ask('checks')
    return checks.find(({ name }) => name === 'policy-files')?.verdict === 'failed'
  })
  t.equal((await ask(alpha, '/admin')).status, 403)
  const checks = await beta.admin.ask('checks')
  t.match(
    checks.find(({ name }) => name === 'policy-files')?.cause,
    /admin\.json:8:\d+: unknown key "path" \(did you mean "paths"\?\)/,
  )
})

t.test('a service that can be reached past its policy is not in the mesh', async (t) => {
  const open = await freePort()
  const program = join(import.meta.dirname, '../support/service-program.ts')
  beta.start('open', [process.execPath, program, 'http', '0.0.0.0', String(open), 'beta'])
  const manifest = { port: open, address: beta.place.local, allow: ['web'] }
  beta.dropManifest('open', manifest)
  const receipt = () =>
    JSON.parse(readFileSync(beta.path('run/status/open.json'), 'utf8')) as object
  await mesh.until('it is rejected', async () => {
    const manifests = await beta.admin.ask('manifests')
    return manifests.find(({ file }) => file.endsWith('open.json'))?.verdict === 'rejected'
  })
  await mesh.until('the receipt says so', () => /unprotected/.test(JSON.stringify(receipt())))
  t.match(receipt(), {
    verdict: 'rejected',
    inForce: 'nothing',
    problems: [{ rule: 'unprotected', message: new RegExp(`listens at 0\\.0\\.0\\.0:${open}`) }],
  })
  beta.dropManifest('open', { ...manifest, policyMode: 'audit' })
  await mesh.sees(alpha, 'open', ['beta'])
  await mesh.until('the receipt follows', () => JSON.stringify(receipt()).includes('"accepted"'))
  t.match(receipt(), { verdict: 'accepted', inForce: 'this version' })
})
