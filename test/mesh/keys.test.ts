/** That private keys are where they belong after a whole run of a mesh, and nowhere else. */

import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import t from 'tap'
import { ports } from '#cli/demo/demo-host.ts'
import { generateKey, keyToPem } from '#shared/pki/keys.ts'
import { call } from '#test/support/callers.ts'
import { MeshWorld } from '#test/support/mesh-world.ts'
import { Secrets } from '#test/support/secrets.ts'
import { testDirectory } from '#test/support/test-directory.ts'

// Programs start here; on a busy machine each takes seconds.
t.setTimeout(400_000)

/** Where keys belong: readable by the program that holds them, and by nobody else. */
const homes = [
  /^controller\/state\/ca\/[^/]+\.pem$/,
  /^controller\/state\/operator\.json$/,
  /^(?:alpha|beta)\/state\/identity\/[^/]+$/,
]

t.test('the search finds a key in every form', async (t) => {
  const pem = keyToPem(await generateKey())
  const secrets = new Secrets()
  const der = Buffer.from(pem.replaceAll(/-----[^-]+-----|\s/g, ''), 'base64')
  const forms = [pem, JSON.stringify({ pem }), der.toString('base64'), der.toString('latin1')]
  for (const text of [...forms, der.toString('hex')]) t.ok(secrets.findIn(text).length > 0)
  secrets.learn(JSON.stringify({ pem }))
  t.equal(secrets.size, 1)
  const secret = der.subarray(36, 68)
  for (const form of ['hex', 'base64', 'base64url'] as const) {
    t.ok(secrets.findIn(`{"x":"${secret.toString(form)}"}`).length > 0, form)
  }
  t.same(secrets.findIn('-----BEGIN CERTIFICATE-----'), [])
})

t.test('no private key is in a log, metric, dump, report or file that others read', async (t) => {
  const reports = testDirectory(t)
  const mesh = await MeshWorld.raise(t, {
    // Longer than a controller takes to start again, on a crowded machine too.
    leafTtlSeconds: 60,
    environment: { NODE_OPTIONS: `--report-on-signal --report-directory=${reports}` },
  })
  const { world, alpha, beta } = mesh
  const secrets = new Secrets()
  const learn = (): void => {
    for (const { path } of secrets.scan(world.directory)) {
      if (homes.some((home) => home.test(relative(world.directory, path)))) {
        secrets.learn(readFileSync(path, 'utf8'))
      }
    }
  }
  const meshctl = async (...words: readonly string[]): Promise<string> =>
    (await world.meshctl(...words)).output
  const said: [string, string][] = []

  // A whole life: joined, renewed, root replaced, banned, and faults of every kind in the logs.
  mesh.serve(beta, 'http', 'orders', 8080)
  beta.dropManifest('orders', { port: 8080, address: beta.place.local })
  beta.dropManifest('broken', { port: 'no' })
  await mesh.sees(alpha, 'orders', ['beta'])
  learn()
  const before = secrets.size
  t.ok(before >= 6, `${before} keys are known`)
  const orders = { host: alpha.place.local, port: ports.forwardProxy, path: 'http://orders.mesh/' }
  t.match(await call(orders), { status: 200 })
  said.push(['meshctl ca rotate', await meshctl('ca', 'rotate')])
  learn()
  t.ok(secrets.size > before, 'new keys with a new root')
  await world.endController('SIGKILL')
  await world.startController()
  // Something that cannot be a credential, beside those that are.
  await alpha.endAgent('SIGKILL')
  await mesh.until('its programs have ended, and write no more', () => {
    return !mesh.processes().some((line) => line.includes(alpha.path('agent.json')))
  })
  writeFileSync(alpha.path('state/identity/host.json'), '{"keyPem": "damaged"', { mode: 0o600 })
  writeFileSync(
    alpha.path('join-token'),
    await meshctl('token', 'create', 'alpha', '--service', '*'),
  )
  alpha.startAgent()
  await mesh.ready(alpha)
  said.push(['meshctl host ban', await meshctl('host', 'ban', 'beta', '--reason', 'a trial')])
  learn()

  for (const host of [alpha, beta]) {
    const asked = ['status', 'certificates', 'policies', 'manifests', 'services', 'checks'] as const
    for (const what of asked)
      said.push([`${host.name} ${what}`, JSON.stringify(await host.admin.ask(what))])
    const target = { host: host.place.address, port: ports.metrics, path: '/metrics' }
    said.push([`${host.name} metrics`, (await call(target)).body])
  }
  for (const words of [
    ['cert', 'list'],
    ['host', 'list'],
    ['ca', 'rotate', '--status'],
    ['store', 'status'],
  ]) {
    said.push([`meshctl ${words.join(' ')}`, await meshctl(...words, '--json')])
  }
  const pids = mesh.processes().map((line) => line.split(' ')[0] ?? '')
  for (const pid of pids) {
    for (const file of ['environ', 'cmdline']) {
      said.push([`/proc/${pid}/${file}`, readFileSync(`/proc/${pid}/${file}`, 'latin1')])
    }
  }
  const programs = mesh.processes().filter((line) => /(?:agent|controller)\/main\.ts/.test(line))
  for (const line of programs) process.kill(Number(line.split(' ')[0]), 'SIGUSR2')
  await mesh.until('each program has left its report', () => {
    const written = readdirSync(reports).map((name) => join(reports, name))
    const whole = written.filter((path) => readFileSync(path, 'utf8').trimEnd().endsWith('}'))
    return whole.length >= programs.length
  })
  learn()
  for (const name of readdirSync(reports)) {
    said.push([`report ${name}`, readFileSync(join(reports, name), 'latin1')])
  }
  t.ok(said.length > 30, `${said.length} texts`)
  for (const [name, text] of said) {
    t.ok(text.length > 0, `${name} says something`)
    t.same(secrets.findIn(text), [], name)
  }

  const files = secrets.scan(world.directory)
  const holders = files.filter(({ found }) => found.length > 0)
  t.ok(files.length > 20, `${files.length} files`)
  t.ok(holders.length >= 6, `${holders.length} files hold keys`)
  t.ok(files.some(({ path }) => path.endsWith('controller.log')))
  for (const { path, mode } of holders) {
    const where = relative(world.directory, path)
    t.ok(
      homes.some((home) => home.test(where)),
      `${where} is where keys belong`,
    )
    t.equal(mode, 0o600, `${where} is its owner’s alone`)
  }
  t.comment(`${secrets.size} keys, ${said.length} texts, ${files.length} files searched`)
})
