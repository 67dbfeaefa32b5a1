import { execFile } from 'node:child_process'
import { connect } from 'node:net'
import { promisify } from 'node:util'
import t from 'tap'
import { DnsServer, type DnsServerSettings } from '#agent/dns/dns-server.ts'
import { Forwarder, type ResolverAddress } from '#agent/dns/forwarder.ts'
import { Responder, type DnsOutcome } from '#agent/dns/responder.ts'
import { Zone, type MeshNames } from '#agent/dns/zone.ts'
import { systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import { must, parseServiceName } from '#shared/model/names.ts'
import { closed } from '#test/support/closed.ts'
import { logLines } from '#test/support/log-lines.ts'
import { needs } from '#test/support/needs.ts'

/** Of nobody else: a port is taken for datagrams first, and has to be free for connections as well. */
const address = '127.0.0.53'
const run = promisify(execFile)

/** Names of one service, `orders` on many ports or `elsewhere` at 192.0.2.1. */
function names(service: string): MeshNames {
  const entry = {
    service: must(parseServiceName(service)),
    ipv4: '240.240.0.7',
    ipv6: null,
    ports: Array.from({ length: 40 }, (_, i) => 8000 + i),
  }
  return {
    known: true,
    find: (name) => (name === service ? entry : undefined),
    at: (address) => (address === '240.240.0.7' ? entry.service : undefined),
  }
}

interface Rig {
  readonly server: DnsServer
  readonly outcomes: DnsOutcome[]
  /** What `dig` prints, line by line. */
  readonly dig: (...words: readonly string[]) => Promise<readonly string[]>
}

async function serve(
  t: Tap,
  {
    resolvers = [],
    service = 'orders',
    settings = {},
  }: {
    readonly resolvers?: readonly ResolverAddress[]
    readonly service?: string
    readonly settings?: Partial<DnsServerSettings>
  } = {},
): Promise<Rig> {
  const outcomes: DnsOutcome[] = []
  const parts = { clock: systemClock, random: systemRandom }
  const forwarder = new Forwarder({ ...parts, resolvers: () => resolvers }, { tryMs: 5000 })
  const responder = new Responder({
    zone: new Zone({ names: names(service) }),
    forwarder,
    count: (outcome) => outcomes.push(outcome),
  })
  const { logger } = logLines()
  const server = new DnsServer({ logger, responder }, { address, port: 0, ...settings })
  await server.start()
  t.teardown(async () => {
    forwarder.stop()
    await server.stop()
  })
  const dig = async (...words: readonly string[]): Promise<readonly string[]> => {
    const place = [`@${address}`, '-p', String(server.port), '+tries=1', '+time=10']
    const { stdout } = await run('dig', [...place, ...words])
    return stdout.split('\n').filter((line) => line !== '')
  }
  return { server, outcomes, dig }
}

type Tap = Parameters<typeof needs>[0] & { teardown(run: () => Promise<void>): unknown }

t.test('dig gets addresses, ports and names back from DnsServer, by UDP and TCP', async (t) => {
  if (!needs(t, 'dig')) return
  const { dig } = await serve(t)
  for (const how of ['+notcp', '+tcp', '+noedns']) {
    t.same(await dig('+short', how, 'orders.mesh'), ['240.240.0.7'], how)
    t.same(await dig('+short', how, 'OrDeRs.mesh.'), ['240.240.0.7'], how)
    t.same(await dig('+short', how, '-x', '240.240.0.7'), ['orders.mesh.'], how)
    t.equal((await dig('+short', how, 'SRV', 'orders.mesh')).length, 40, how)
  }
  t.match((await dig('none.mesh')).join('\n'), /status: NXDOMAIN[^]*mesh\.\s+2\s+IN\s+SOA/)
  t.match((await dig('AAAA', 'orders.mesh')).join('\n'), /status: NOERROR[^]*ANSWER: 0/)
  t.match((await dig('+edns=1', '+noednsneg', 'orders.mesh')).join('\n'), /status: BADVERS/)
  t.match((await dig('+ignore', '+notcp', 'SRV', 'orders.mesh')).join('\n'), /flags: qr aa tc/)
})

t.test('DnsServer passes the questions of others on, past resolvers that are dead', async (t) => {
  if (!needs(t, 'dig')) return
  const far = await serve(t, { service: 'far' })
  const dead = await serve(t)
  await dead.server.stop()
  const resolvers = [dead, far].map(({ server }) => ({ address, port: server.port }))
  const near = await serve(t, { resolvers })
  const { dig, outcomes } = near
  t.match((await dig('+tcp', 'x.example')).join('\n'), /status: SERVFAIL/)
  t.equal(outcomes.at(-1), 'forwarded')
  t.match((await dig('x.example')).join('\n'), /status: SERVFAIL/)
  t.same(far.outcomes, ['unanswered', 'unanswered'], 'each way reached the live resolver')
})

t.test('DnsServer says SERVFAIL where no resolver answers', async (t) => {
  if (!needs(t, 'dig')) return
  const { dig, outcomes } = await serve(t)
  t.match((await dig('example.org')).join('\n'), /status: SERVFAIL/)
  t.same(outcomes, ['unanswered'])
})

t.test(
  'DnsServer bears TCP callers that send nonsense, everything at once, or nothing',
  async (t) => {
    const { server } = await serve(t, { settings: { idleMs: 1000, maxConnections: 8 } })
    const question = Buffer.from(
      '000701000001000000000000066f7264657273046d6573680000010001',
      'hex',
    )
    const asked = Buffer.concat([Buffer.from([0, question.length]), question])
    const busy = connect(server.port, address)
    let heard = 0
    busy.on('data', (piece) => (heard += piece.length))
    busy.write(Buffer.concat(Array.from({ length: 100 }, () => asked)))
    await closed(busy)
    const [nameBytes, restBytes] = ['_orders_mesh_'.length, 14]
    t.equal(heard, 100 * (2 + question.length + nameBytes + restBytes), 'each has its answer')
    const odd = connect(server.port, address)
    odd.write(Buffer.alloc(100_000, 0xff))
    await closed(odd)
    const mute = connect(server.port, address)
    await closed(mute)
    t.pass('the silent ones were let go')
  },
)

t.test('DnsServer says where it could not listen', async (t) => {
  const first = await serve(t)
  const { logger } = logLines()
  const responder = { respond: async () => null }
  const second = new DnsServer({ logger, responder }, { address, port: first.server.port })
  await t.rejects(second.start(), { code: 'listen-failed', message: /127\.0\.0\.53:\d+/ })
})
