/**
 * Operators go around the mesh and come back: capture off and on, a bypass that ends by itself, an
 * upgrade, and what a killed agent leaves to the guard. A hundred captured connections live through
 * all of it, SSH and other traffic outside the mesh never notice, and nothing but our table is touched.
 */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import t, { type Test } from 'tap'
import type { DemoHost } from '#cli/demo/demo-host.ts'
import { asUser, curlAs, userCommand } from '#test/support/local-user.ts'
import { MeshWorld } from '#test/support/mesh-world.ts'
import { lacks } from '#test/support/needs.ts'

// Programs start here; on a busy machine each takes seconds.
t.setTimeout(600_000)

const skip = lacks('netns', 'nft', 'curl', 'setpriv')
const [orders, web, shop, stranger] = [3001, 3002, 3003, 4000]
const service = join(import.meta.dirname, '../support/service-program.ts')
const held = 100
/** Where an administrator of the host comes in, and what else it does outside the mesh. */
const [ssh, session] = [22, 8081]

/** Holds connections open and says each word it is told over all of them; prints who echoed. */
const holder = `
  const net = require('node:net')
  const [to, port, count] = process.argv.slice(1)
  const all = Array.from({ length: Number(count) }, () => net.connect(Number(port), to))
  let echoed = 0
  for (const s of all) {
    s.on('error', (e) => console.log(e.code)).on('close', () => console.log('closed'))
    s.on('data', (d) => { if (++echoed % all.length === 0) console.log('all said ' + d) })
  }
  require('node:readline').createInterface({ input: process.stdin })
    .on('line', (word) => { for (const s of all) s.write(word) })`

/** Connections of a user of a host that live on, whatever happens. */
class Held {
  readonly #lines: AsyncIterator<string>
  readonly #say: (word: string) => void
  readonly end: () => Promise<void>

  constructor(t: Test, host: DemoHost, user: number, to: string, port: number, count = held) {
    const words = [process.execPath, '-e', holder, to, String(port), String(count)]
    const [first = '', ...rest] = host.place.enter(userCommand(user, ...words))
    const child = spawn(first, rest, { stdio: ['pipe', 'pipe', 'inherit'] })
    t.teardown(() => child.kill('SIGKILL'))
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    this.#say = (word) => child.stdin.write(`${word}\n`)
    this.end = async () => {
      const ended = once(child, 'exit')
      child.kill('SIGKILL')
      await ended
    }
  }

  /** Sends a word over every one of them; answers what came of it. */
  async say(word: string): Promise<string> {
    this.#say(word)
    return ((await this.#lines.next()).value as string | undefined) ?? 'ended'
  }
}

/** As an administrator wrote it; nobody is there. */
const resolvers = '# of the site\nsearch example.test\nnameserver 10.204.0.99\noptions timeout:1\n'
/** The agent finds a resolver file of its own at the usual place: that beside its config. */
const ownResolvers = [
  'unshare',
  '--mount',
  'sh',
  '-c',
  'for last; do :; done; mount --bind "${last%/*}/resolv.conf" /etc/resolv.conf && exec "$@"',
  'sh',
]

/** Everything that capture might change on a host. */
async function stateOf(host: DemoHost): Promise<string> {
  // Counters, and what lets workers hand connections on: that is no matter of capture.
  const others = '-e conntrack_count -e random -e tcp_migrate_req'
  const sysctls = `sysctl -a 2>/dev/null | grep "^net" | grep -v ${others}`
  const looks = [
    'nft list ruleset',
    'ip rule; ip -6 rule',
    'ip route show table all; ip -6 route show table all',
    `${sysctls}; true`,
  ]
  const said = await Promise.all(looks.map((look) => asUser(host, 0, 'sh', '-c', look)))
  return [...said, readFileSync(host.path('resolv.conf'), 'utf8')].join('\n---\n')
}

/** Whether the kernel has given a new cable its IPv6 address, which brings routes along. */
async function hasSettled(host: DemoHost): Promise<boolean> {
  const off = 'cat /proc/sys/net/ipv6/conf/eth0/disable_ipv6 2>/dev/null || echo 1'
  if ((await asUser(host, 0, 'sh', '-c', off)).trim() === '1') return true
  const addresses = await asUser(host, 0, 'ip', '-6', 'address', 'show', 'dev', 'eth0')
  return addresses.includes('inet6') && !addresses.includes('tentative')
}

/** A map of our table as it stands, all on one line. */
async function maps(host: DemoHost, name: string): Promise<string> {
  const words = ['nft', '-n', 'list', 'map', 'inet', 'hostmesh', name]
  return (await asUser(host, 0, ...words)).replaceAll(/\s+/g, ' ')
}

async function raise(t: Test) {
  let clean = ''
  const mesh = await MeshWorld.raise(t, {
    places: 'namespaces',
    agentIn: ownResolvers,
    agentConfig: { systemDns: 'resolv-conf' },
    beforeAgents: async (mesh) => {
      for (const host of mesh.world.hosts) writeFileSync(host.path('resolv.conf'), resolvers)
      await mesh.until('beta has its own addresses', () => hasSettled(mesh.beta))
      clean = await stateOf(mesh.beta)
    },
  })
  const { alpha, beta } = mesh
  const start = (host: DemoHost, user: number, kind: string, name: string, port: number) =>
    host.start(
      name,
      userCommand(user, process.execPath, service, kind, '0.0.0.0', String(port), host.name),
    )
  start(alpha, orders, 'echo', 'orders', 7000)
  start(alpha, 0, 'http', 'ssh', ssh)
  start(alpha, 0, 'echo', 'session', session)
  start(alpha, web, 'http', 'secret', 8082)
  const real = alpha.place.address
  alpha.dropManifest('orders', {
    port: 7000,
    protocol: 'tcp',
    run: { user: `${orders}` },
    intercept: [`${real}:7000`],
  })
  alpha.dropManifest('secret', {
    port: 8082,
    run: { user: `${web}` },
    allow: ['host/*'],
    intercept: [`${real}:8082`],
    onAgentDown: 'deny',
  })
  // One that may be called in plain on the other host, and one on the host itself.
  for (const [host, name, port] of [
    [alpha, 'open', 8083],
    [beta, 'near', 8084],
  ] as const) {
    start(host, shop, 'http', name, port)
    host.dropManifest(name, { port, run: { user: `${shop}` } })
  }
  await mesh.sees(beta, 'orders', ['alpha'])
  await mesh.sees(beta, 'secret', ['alpha'])
  await mesh.sees(beta, 'open', ['alpha'])
  await mesh.sees(beta, 'near', ['beta'])
  const captures = (host: DemoHost, count: number) =>
    mesh.until(`${host.name} captures`, async () => {
      const { capture } = await host.admin.ask('status')
      return capture.kind === 'on' && capture.destinations >= count
    })
  await captures(beta, 10)
  await captures(alpha, 10)
  const asked = `nameserver 127.0.0.1\n# hostmesh: end\n${resolvers}`
  await mesh.until('programs of beta ask the agent first', () =>
    readFileSync(beta.path('resolv.conf'), 'utf8').endsWith(asked),
  )
  return { mesh, alpha, beta, real, clean, captures }
}

const outside = (real: string) => `http://${real}:${ssh}/`

t.test('a hundred connections live through off, on and a bypass', { skip }, async (t) => {
  const { mesh, alpha, beta, real, clean, captures } = await raise(t)
  const connections = new Held(t, beta, stranger, real, 7000)
  const sessions = new Held(t, beta, 0, real, session, 3)
  /** What was open lives, and who is no matter of the mesh's comes and goes. */
  const livesThrough = async (what: string): Promise<void> => {
    t.equal(await connections.say(what), `all said ${what}`)
    t.equal(await sessions.say(what), `all said ${what}`)
    t.match(await curlAs(beta, 0, outside(real)), '"host":"alpha"', `others never notice ${what}`)
  }
  await livesThrough('the beginning')
  const by = { by: 'ann', reason: 'a test' }
  const virtual =
    (await beta.admin.ask('services')).find(({ name }) => name === 'secret')?.addresses[0] ?? ''
  const secret = `http://${real}:8082/`
  const viaMesh = /"x-mesh-source":"spiffe:\/\/mesh\.internal\/host\/beta"/

  t.match(await curlAs(beta, stranger, secret), viaMesh)
  const explain = (host: DemoHost, to: string, user: number) =>
    host.admin.explainCapture(new URLSearchParams({ to, user: `${user}` }))
  t.match(await explain(beta, `${real}:8082`, stranger), {
    kind: 'captured',
    service: 'secret',
    caller: null,
  })
  t.match(await explain(beta, 'secret.mesh:80', stranger), { kind: 'captured', service: 'secret' })
  t.match(await explain(beta, `${virtual}:22`, stranger), { kind: 'refused', why: /virtual IP/ })
  t.match(await explain(beta, `${real}:${ssh}`, stranger), { kind: 'direct' })
  t.match(await explain(alpha, '127.0.0.1:8082', stranger), { kind: 'captured', service: 'secret' })
  t.match(await explain(alpha, `${real}:8082`, orders), { kind: 'captured', caller: 'orders' })
  t.match(await explain(alpha, '127.0.0.1:8082', web), { kind: 'direct', why: /own user/ })
  t.match(await explain(beta, 'nonsense', stranger), { kind: 'bad-question' })

  await t.rejects(beta.admin.tell('capture', { wish: 'off', by: 'ann', reason: '' }), {
    message: /says why/,
  })
  await beta.admin.tell('capture', { wish: 'off', ...by })
  t.match((await beta.admin.ask('status')).capture, { kind: 'lifted', lifted: by })
  await livesThrough('capture off')
  t.match(await curlAs(beta, stranger, secret), /failed (?:7|56)/, 'its own host stays locked')
  t.match(await curlAs(beta, stranger, `http://${virtual}/`), /failed/, 'virtual IPs lead nowhere')
  t.not(await stateOf(beta), clean, 'rules wait for the connections')
  await mesh.until(
    'resolver files are as they were',
    () => readFileSync(beta.path('resolv.conf'), 'utf8') === resolvers,
  )

  // A restart of the control process changes nothing about it.
  const { control } = await mesh.pids(beta)
  process.kill(control, 'SIGKILL')
  await mesh.until('the control process is back', async () => {
    const { pid, capture } = await beta.admin.ask('status')
    return pid !== control && capture.kind === 'lifted'
  })
  await livesThrough('a restart while it is off')

  await beta.admin.tell('capture', { wish: 'on', by: 'ann', reason: '' })
  await captures(beta, 10)
  await livesThrough('capture on')
  t.match(await curlAs(beta, stranger, secret), viaMesh)

  await alpha.admin.tell('bypass', { service: 'secret', forMs: 3_600_000, ...by })
  await beta.admin.tell('bypass', { service: 'secret', forMs: 3_600_000, ...by })
  t.notMatch(await curlAs(beta, stranger, secret), 'x-mesh-source', 'around the mesh')
  t.match(
    (await beta.admin.ask('checks')).find(({ name }) => name === 'bypasses'),
    {
      verdict: 'warning',
      cause: /secret for another \d+ s, by ann: a test/,
    },
  )
  await beta.admin.tell('bypass', { service: 'secret', forMs: 1000, ...by })
  await mesh.until('the bypass ends by itself', async () =>
    viaMesh.test(await curlAs(beta, stranger, secret)),
  )
  await alpha.admin.tell('bypass', { service: 'secret', forMs: 0, by: 'ann', reason: '' })
  await livesThrough('a bypass')

  await asUser(beta, 0, 'nft', 'flush', 'ruleset')
  await mesh.until('a foreign flush is repaired', async () =>
    (await asUser(beta, 0, 'nft', 'list', 'tables')).includes('hostmesh'),
  )
  await captures(beta, 10)
  t.match(await curlAs(beta, stranger, secret), viaMesh)
  await livesThrough('a foreign flush')

  // Another generation has ports of its own; the one before keeps what it has.
  const led = async (): Promise<string> =>
    /\{ \S+ : (\d+) \}/.exec(await maps(beta, 'unknown_callers'))?.[1] ?? ''
  const before = await led()
  beta.agent?.signal('SIGUSR2')
  await mesh.until('the next generation has taken over', async () => {
    const phases = (await beta.admin.ask('generations')).map(({ phase }) => phase)
    return phases.includes('live') && phases.includes('retiring')
  })
  await mesh.until('new connections are led to its ports', async () => (await led()) !== before)
  await livesThrough('a map that leads to other ports')
  t.match(await curlAs(beta, stranger, secret), viaMesh)

  // All but the old worker is killed, and its supervisor starts nothing: the guard lets go.
  const supervisor = beta.agent?.pid ?? 0
  process.kill(supervisor, 'SIGSTOP')
  t.teardown(() => process.kill(supervisor, 'SIGCONT'))
  const { pid, workers } = await beta.admin.ask('status')
  const live = workers.filter(({ phase }) => phase === 'live')
  t.equal(live.length, 1)
  for (const one of [pid, live[0]?.pid ?? 0]) process.kill(one, 'SIGKILL')
  await mesh.until(
    'the guard has let go',
    async () => !(await maps(beta, 'destinations4')).includes(`${real} . 7000`),
  )
  await livesThrough('the guard')
  t.match(await curlAs(beta, stranger, secret), /failed 7/, 'deny is refused at once')
  process.kill(supervisor, 'SIGCONT')
  await mesh.ready(beta)
  await captures(beta, 10)
  await livesThrough('the return')

  await beta.admin.tell('capture', { wish: 'off', ...by })
  await connections.end()
  await mesh.until('the last rule is gone', async () => (await stateOf(beta)) === clean)
})

t.test('a killed agent leaves the stances and nothing else', { skip }, async (t) => {
  const { mesh, beta, real, clean, captures } = await raise(t)
  const services = await beta.admin.ask('services')
  const virtual = (name: string): string =>
    services.find((one) => one.name === name)?.addresses[0] ?? ''
  const call = (name: string, port = 80): Promise<string> =>
    curlAs(beta, stranger, `http://${virtual(name)}:${port}/`)
  const viaMesh = /"host":"alpha".*"x-mesh-source":"spiffe:\/\/mesh\.internal\/host\/beta"/
  t.match(await call('open'), viaMesh)
  await mesh.until('the kernel knows who stands in', async () => {
    const map = await maps(beta, 'plain4')
    return map.includes(`${real} . 8083`) && map.includes('127.0.0.1 . 8084')
  })
  const pids = await mesh.pids(beta)
  // What is to stay stays: the supervisor, and with it the guard.
  const supervisor = beta.agent?.pid ?? 0
  process.kill(supervisor, 'SIGSTOP')
  t.teardown(() => process.kill(supervisor, 'SIGCONT'))
  for (const pid of [pids.control, pids.worker]) process.kill(pid, 'SIGKILL')
  await mesh.until(
    'direct addresses go there directly',
    async () => !(await maps(beta, 'destinations4')).includes(`${real} . 7000`),
  )
  const map = await maps(beta, 'destinations4')
  t.match(map, `elements = { ${real} . 8082 : 240.240.`)
  t.equal(map.match(/: 240\.240/g)?.length, 1, 'the stances and nothing else')
  t.match(
    await curlAs(beta, stranger, `http://${real}:8082/`),
    /failed 7/,
    'deny is refused at once',
  )
  t.match(await curlAs(beta, stranger, outside(real)), '"host":"alpha"', 'others never notice')
  await mesh.until('virtual IPs lead to who stands in', async () =>
    (await call('open')).includes('"host":"alpha"'),
  )
  for (const [name, port, host] of [
    ['open', 8083, 'alpha'],
    ['near', 80, 'beta'],
    ['near', 8084, 'beta'],
  ] as const) {
    const answer = await call(name, port)
    t.match(answer, `"host":"${host}"`, `${name} is reached at ${port}`)
    t.notMatch(answer, 'x-mesh-source', 'in plain')
  }
  t.match(await call('secret'), /failed 7/, 'what is strict never is')
  t.match(await call('open', 22), /failed 7/)
  const [, ...now] = (await stateOf(beta)).split('\n---\n')
  const [, ...before] = clean.split('\n---\n')
  const strip = (parts: readonly string[]) =>
    parts.map((part) => part.replaceAll(/^local (?:240\.240|fd)\S+ dev lo .*\n/gm, ''))
  t.same(
    strip(now),
    strip(before),
    'but for our table and the route of virtual IPs nothing differs',
  )

  process.kill(supervisor, 'SIGCONT')
  await mesh.ready(beta)
  await captures(beta, 10)
  await mesh.until('it is captured again', async () => viaMesh.test(await call('open')))
  await beta.admin.tell('capture', { wish: 'off', by: 'ann', reason: 'a test' })
  await mesh.until('nothing is left', async () => (await stateOf(beta)) === clean)
})
