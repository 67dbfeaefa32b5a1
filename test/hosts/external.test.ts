/**
 * Services outside the mesh, behind real servers that know nothing of it: programs of a confined host
 * call them by name and by their real addresses, with TLS of the agent or of their own, each as itself
 * and only where a manifest allows it.
 */

import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { spawn } from 'node:child_process'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { makeTestCa } from '#test/support/certs.ts'
import { asUser, curlAs } from '#test/support/local-user.ts'
import { MeshWorld } from '#test/support/mesh-world.ts'
import { makeNamespace } from '#test/support/namespace.ts'
import { lacks } from '#test/support/needs.ts'
import { prepareNginx } from '#test/support/nginx-program.ts'

// Programs start here; on a busy machine each takes seconds.
t.setTimeout(300_000)

const [web, reports, stranger] = [3001, 3002, 4000]
const [first, second] = ['10.204.0.50', '10.204.0.51']
const service = join(import.meta.dirname, '../support/service-program.ts')

t.test('services outside are called through the mesh, each caller as itself', async (t) => {
  const skip = lacks('netns', 'nft', 'curl', 'setpriv', 'nginx')
  if (skip !== '') {
    t.plan(0, skip)
    return
  }
  const directory = mkdtempSync(join(tmpdir(), 'hostmesh-external-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  chmodSync(directory, 0o755)
  const file = (name: string, text: string): string => {
    writeFileSync(join(directory, name), text, { mode: 0o644 })
    return join(directory, name)
  }
  const hosts = file('hosts', `${first} api.example.test\n${second} api.example.test\n`)
  const ca = await makeTestCa('outside.test')
  const leaf = await ca.issue({
    id: 'https://example.test/',
    dnsNames: ['api.example.test', 'vault.example.test'],
  })
  const roots = file('roots.pem', ca.bundlePem)
  const otherRoots = file('other.pem', (await makeTestCa('other.test', 'other')).bundlePem)
  const certificate = `ssl_certificate ${file('chain.pem', leaf.chainPem)};
    ssl_certificate_key ${file('key.pem', leaf.keyPem)};`

  const mesh = await MeshWorld.raise(t, {
    places: 'namespaces',
    agentConfig: { egress: 'registry-only' },
    agentIn: ['unshare', '--mount', 'sh', '-c', 'mount --bind "$0" /etc/hosts && exec "$@"', hosts],
  })
  const { alpha } = mesh
  const outside = makeNamespace(t, 'outside')
  const far = ['peer', 'name', 'outside', 'netns', mesh.world.namespace]
  outside.run('ip', 'link', 'add', 'eth0', 'type', 'veth', ...far)
  for (const address of [first, second])
    outside.run('ip', 'address', 'add', `${address}/24`, 'dev', 'eth0')
  outside.run('ip', 'link', 'set', 'eth0', 'up')
  // Alpha's namespace holds the switch.
  const onSwitch = (...words: readonly string[]) => asUser(alpha, 0, 'ip', 'link', 'set', ...words)
  t.equal(await onSwitch('outside', 'master', 'eth0', 'up'), '')
  const serve = (words: readonly string[]) => {
    const [program = '', ...rest] = [...outside.enter, ...words]
    const child = spawn(program, rest, { stdio: 'ignore' })
    t.teardown(() => child.kill('SIGKILL'))
    return child
  }
  // What the world outside sees of a call.
  const told = `'$server_addr $scheme $http_host <$http_x_mesh_source$http_x_forwarded_for>'`
  const nginx = (name: string, listen: string, server: string) =>
    serve(prepareNginx({ directory: join(directory, name), listen, server }))
  const answers = `location / { return 200 ${told}; }`
  const firstServer = nginx('a', `${first}:443 ssl`, `${certificate} ${answers}`)
  nginx('b', `${second}:443 ssl`, `${certificate} ${answers}`)
  nginx('plain', `${first}:80`, answers)
  nginx('vault', `${second}:8443 ssl`, `${certificate} ${answers}`)
  serve([process.execPath, service, 'echo', first, '7000', 'outside'])

  for (const [name, user] of Object.entries({ web, reports }))
    alpha.dropManifest(name, { run: { user: `${user}` } })
  const tls = (caFile: string) => ({ tls: { caFile } })
  const api = { addresses: ['api.example.test'], port: 443 }
  alpha.dropManifest('api', {
    external: { ...api, ...tls(roots) },
    protocol: 'http',
    intercept: ['api.example.test:80'],
    allow: ['web'],
  })
  alpha.dropManifest('unproven', { external: { ...api, ...tls(otherRoots) }, protocol: 'http' })
  alpha.dropManifest('nowhere', { external: { addresses: ['no.example.test'], port: 443 } })
  alpha.dropManifest('vault', {
    external: { addresses: [second], port: 8443 },
    intercept: [`${second}:8443`],
    allow: ['web'],
  })
  alpha.dropManifest('ledger', {
    external: { addresses: [first], port: 7000 },
    intercept: [`${first}:7000`],
    onAgentDown: 'deny',
  })
  const seen = /^(\S+) https api\.example\.test <>$/
  await mesh.until('a call by name is answered, over TLS of the agent', async () =>
    seen.test(await curlAs(alpha, web, 'http://api.mesh/')),
  )
  const to = (url: string, ...more: readonly string[]) =>
    [url, '-sS', '--max-time', '10', ...more] as const
  const curl = (user: number, url: string, ...more: readonly string[]) =>
    asUser(alpha, user, 'curl', ...to(url, ...more))

  // By real addresses, as programs call that know nothing of the mesh.
  const known = ['--resolve', `api.example.test:80:${second}`]
  t.match(await curl(web, 'http://api.example.test/x', ...known), seen, 'led into the mesh')
  const own = ['--resolve', `vault.example.test:8443:${second}`, '--cacert', roots]
  const vault = 'https://vault.example.test:8443/'
  t.match(await curl(web, vault, ...own), `${second} https vault.example.test:8443 <>`)

  // Each caller as itself, under the policy of the manifest.
  for (const user of [reports, stranger]) {
    const refusal = await curl(user, 'http://api.example.test/', ...known)
    t.match(refusal, /policy-denied.*api\.json/, `user ${user} is refused by name`)
    t.match(await curl(user, vault, ...own), /^failed /, 'and where bytes pass as they come')
  }
  t.match(
    await curlAs(alpha, web, `http://${second}:443/`),
    /failed 7/,
    'confined to what is named',
  )
  t.match(await curlAs(alpha, web, 'http://unproven.mesh/'), /external-failed.*certificate/)
  t.match(await curlAs(alpha, web, 'http://nowhere.mesh:443/'), /failed/)
  const id = (path: string): string => `spiffe://mesh.internal/${path}`
  await mesh.until('access lines tell who called what', () => {
    const lines = alpha.accessLines(60)
    const has = (source: string, destination: string, reason: string, mtls = false): boolean =>
      lines.some(
        (line) =>
          line.source === id(source) &&
          line.destination === id(`external/${destination}`) &&
          line.reason === reason &&
          line.mtls === mtls &&
          line.host === null,
      )
    return (
      has('service/web', 'api', 'ok') &&
      has('service/web', 'vault', 'ok') &&
      has('service/reports', 'api', 'policy-denied') &&
      has('host/alpha', 'vault', 'policy-denied') &&
      has('service/web', 'unproven', 'external-failed')
    )
  })

  // What operators are told.
  const told1 = Object.fromEntries(
    (await alpha.admin.ask('external')).map((one) => [one.service, one]),
  )
  t.match(told1['api'], { tls: 'originate', problems: [], protocol: 'http' })
  t.same(told1['api']?.endpoints.map(({ address }) => address).sort(), [first, second])
  t.match(told1['nowhere'], { endpoints: [], problems: [/no\.example\.test does not resolve/] })
  const request = { method: 'GET', path: '/' }
  const why = (caller: string, of = 'api') =>
    alpha.admin.tell('why', { service: of, caller, request })
  t.match(await why('web'), { verdict: 'works' })
  const { verdict, steps } = await why('reports')
  const culprit = steps.find((step) => step.verdict === 'failed')
  t.match([verdict, culprit], ['broken', { finding: 'policy-denied', cause: /api\.json/ }])
  t.match(await why('web', 'nowhere'), { verdict: 'broken' })
  const explained = (user: number) =>
    alpha.admin.explainCapture(new URLSearchParams({ to: `${first}:7000`, user: `${user}` }))
  t.match(await explained(web), { kind: 'captured', service: 'ledger', caller: 'web' })
  const checks = await alpha.admin.ask('checks')
  t.match(
    checks.find(({ name }) => name === 'external'),
    { verdict: 'failed', cause: /nowhere \(down\)/ },
  )
  const metrics = (): Promise<string> =>
    curlAs(alpha, 0, `http://${alpha.place.address}:15020/metrics`)
  const counted = await metrics()
  t.match(counted, /^mesh_external_addresses\{service="api"\} 2$/m)
  t.match(counted, /^mesh_requests_total\{.*destination="[^"]*external\/api".*\} [1-9]/m)

  // One of two addresses fails: callers notice nothing, and it is left out.
  firstServer.kill('SIGKILL')
  const destination = id('external/api').replaceAll('/', '\\/')
  const ejected = new RegExp(`^mesh_ejections_total\\{destination="${destination}"\\} [1-9]`, 'm')
  let answered = 0
  await mesh.until('it is ejected', async () => {
    if (seen.test(await curlAs(alpha, web, 'http://api.mesh/'))) answered++
    else t.fail('a caller noticed')
    return ejected.test(await metrics())
  })
  t.ok(answered > 0)

  // The agent is gone: what manifests say then holds.
  const pids = await mesh.pids(alpha)
  const supervisor = alpha.agent?.pid ?? 0
  process.kill(supervisor, 'SIGSTOP')
  t.teardown(() => process.kill(supervisor, 'SIGCONT'))
  for (const pid of [pids.control, pids.worker]) process.kill(pid, 'SIGKILL')
  await mesh.until('real addresses are reached without the agent', async () =>
    (
      await curl(web, 'http://api.example.test/', '--resolve', `api.example.test:80:${first}`)
    ).includes(`${first} http api.example.test`),
  )
  const dial = `require('node:net').connect(7000, '${first}').on('error', (e) => console.log(e.code)).on('connect', () => { console.log('open'); process.exit() })`
  t.match(await asUser(alpha, web, process.execPath, '-e', dial), 'ECONNREFUSED', 'deny stays deny')
})
