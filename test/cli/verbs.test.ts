import { execFile } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { AdminServer } from '#agent/admin/admin-server.ts'
import { authzExplain, authzList } from '#cli/authz.ts'
import { captureStatus } from '#cli/capture.ts'
import { check } from '#cli/check.ts'
import { AdminSocket } from '#cli/client/admin-socket.ts'
import { hostList } from '#cli/host.ts'
import { manifestStatus, manifestValidate } from '#cli/manifest.ts'
import { Printer } from '#cli/output/printer.ts'
import { schema } from '#cli/schema.ts'
import { services } from '#cli/services.ts'
import { status } from '#cli/status.ts'
import { parseTtl, tokenCreate } from '#cli/token.ts'
import { systemClock } from '#shared/lifecycle/clock.ts'
import { createLogger } from '#shared/logging/logger.ts'
import type { AuthzAnswer, ServicePolicyReport } from '#shared/model/admin-policies.ts'
import type { AgentFacts } from '#shared/model/admin.ts'
import type { ControllerClient } from '#shared/rpc/controller-client.ts'
import { healthyFacts, withStatus } from '#test/support/agent-facts.ts'
import { shortDir } from '#test/support/short-dir.ts'
import { root } from '#test/support/sources.ts'
import { testDirectory } from '#test/support/test-directory.ts'

const once = { waitMs: 0 }
const clock = systemClock
const logger = createLogger({ name: 'test', level: 'silent' })

function paper(json: boolean): { printer: Printer; out: () => string; err: () => string } {
  const texts = { out: '', err: '' }
  const streams = {
    out: (text: string) => void (texts.out += text),
    err: (text: string) => void (texts.err += text),
  }
  return {
    printer: new Printer({ streams }, { json }),
    out: () => texts.out,
    err: () => texts.err,
  }
}

async function agentWith(
  t: Test,
  facts: AgentFacts | (() => AgentFacts),
  answer: AuthzAnswer = { kind: 'bad-question', problem: 'none' },
): Promise<AdminSocket> {
  const socketPath = join(shortDir(t), 'agent.sock')
  const now = typeof facts === 'function' ? facts : () => facts
  const source = {
    status: () => now().status,
    services: () => now().services,
    external: () => now().external,
    manifests: () => now().manifests,
    certificates: () => now().certificates,
    policies: () => now().policies,
    machine: () => now().machine,
    generations: async () => [],
    explain: () => answer,
    explainCapture: async () => ({ kind: 'bad-question' as const, problem: 'none' }),
  }
  const server = new AdminServer({ source, logger }, { socketPath })
  await server.start()
  t.teardown(() => server.stop())
  return new AdminSocket({ socketPath })
}

t.test('status tells a person and a script the same, and succeeds when ready', async (t) => {
  const agent = await agentWith(t, healthyFacts)
  const person = paper(false)
  t.equal(await status({ agent, printer: person.printer }), 0)
  t.match(person.out(), /^host +alpha \(10\.0\.0\.1, zone z1\)$/m)
  t.match(person.out(), /^controller +10\.0\.0\.9:15010 connected$/m)
  t.match(person.out(), /^alone +could go on for 23 h, until the certificate of .*\/web ends$/m)
  t.match(person.out(), /^capture +2 addresses lead into the mesh; callers known here: none$/m)
  t.match(person.out(), /^worker 1-0 +pid 101, snapshot 7 of 7.*2 of 2 listeners open$/m)
  const script = paper(true)
  t.equal(await status({ agent, printer: script.printer }), 0)
  t.same(JSON.parse(script.out()), healthyFacts.status)
})

t.test('status fails when the agent is not ready, and says what it waits for', async (t) => {
  const store = { kind: 'down', sinceMs: healthyFacts.status.nowMs - 65_000, reason: 'refused' }
  const facts = withStatus({ ready: false, waitsFor: 'the store', store } as object)
  const agent = await agentWith(t, facts)
  const { printer, out } = paper(false)
  t.equal(await status({ agent, printer }), 1)
  t.match(out(), /^ready +no, waits for the store$/m)
  t.match(out(), /^store +away for 1 min 5 s: refused$/m)
})

t.test('status says that a host whose certificate has ended cannot go on', async (t) => {
  const agent = await agentWith(t, withStatus({ outageBudget: { ms: 0, endsFirst: 'spiffe://x' } }))
  const { printer, out } = paper(false)
  await status({ agent, printer })
  t.match(out(), /^alone +cannot go on: the certificate of spiffe:\/\/x has ended$/m)
})

t.test('status says how long ago an absent store vouched for the view', async (t) => {
  const { nowMs, snapshot } = healthyFacts.status
  const ofDisk = { ...snapshot, source: 'disk', vouchedAtMs: nowMs - 65_000 } as const
  const outOf = async (facts: AgentFacts): Promise<string> => {
    const { printer, out } = paper(false)
    await status({ agent: await agentWith(t, facts), printer })
    return out()
  }
  const store = { kind: 'unknown' } as const
  const old = await outOf(withStatus({ snapshot: ofDisk, store }))
  t.match(old, /^view +revision 42 from disk, vouched for 1 min 5 s ago: 2 services/m)
  t.match(await outOf(healthyFacts), /^view +revision 42 from store: 2 services/m)
  const none = await outOf(withStatus({ outageBudget: null }))
  t.match(none, /^alone +could not go on: it has no view of the mesh$/m)
})

t.test('services lists instances and marks those of this host', async (t) => {
  const agent = await agentWith(t, {
    ...healthyFacts,
    services: [
      {
        name: 'orders',
        protocol: 'http',
        addresses: ['240.240.1.2'],
        ports: [{ name: 'admin', protocol: 'tcp', addresses: ['240.240.1.3'] }],
        instances: [
          {
            host: 'alpha',
            id: '1',
            port: 8080,
            ports: [{ name: 'admin', port: 9090, protocol: 'tcp' }],
            weight: 100,
            local: true,
          },
        ],
      },
      { name: 'lonely', protocol: 'tcp', addresses: [], ports: [], instances: [] },
    ],
  })
  const { printer, out } = paper(false)
  t.equal(await services({ agent, printer }), 0)
  t.match(out(), /^orders +http +240\.240\.1\.2 +alpha \(here\) +1 +8080 +100$/m)
  t.match(out(), /^admin\.orders +tcp +240\.240\.1\.3 +alpha \(here\) +1 +9090 +100$/m)
  t.match(out(), /^lonely +tcp +- +no instance$/m)
})

t.test('check fails when one check does, with cause, fix and where to read on', async (t) => {
  const { printer, out } = paper(false)
  t.equal(await check({ agent: await agentWith(t, healthyFacts), printer, clock }, once), 0)
  const sick = paper(false)
  const agent = await agentWith(t, withStatus({ workers: [] }))
  t.equal(await check({ agent, printer: sick.printer, clock }, once), 1)
  t.match(out(), /^ok +agent-socket/m)
  t.match(sick.out(), /^FAIL +workers-connected +no proxy worker/m)
  t.match(sick.out(), /cause: none was started[^]*fix: [^]*docs\/checks\.md#workers-connected/)
})

t.test('check --wait asks until nothing fails, and tells what it saw last', async (t) => {
  let looks = 0
  const mends = await agentWith(t, () => {
    looks += 1
    return looks < 20 ? withStatus({ workers: [] }) : healthyFacts
  })
  const { printer, out } = paper(false)
  t.equal(await check({ agent: mends, printer, clock }, { waitMs: 60_000 }), 0)
  t.match(out(), / 0 failed\n$/)
  const sick = paper(false)
  const agent = await agentWith(t, withStatus({ workers: [] }))
  t.equal(await check({ agent, printer: sick.printer, clock }, { waitMs: 1 }), 1)
  t.match(sick.out(), /^FAIL +workers-connected/m)
})

t.test(
  'check reports an agent that does not answer, and exits as every verb does then',
  async (t) => {
    const agent = new AdminSocket({ socketPath: join(shortDir(t), 'none.sock') })
    const { printer, out } = paper(true)
    t.equal(await check({ agent, printer, clock }, once), 3)
    t.match(JSON.parse(out()), [
      {
        name: 'agent-socket',
        verdict: 'failed',
        cause: /^there is no such socket$/,
        fix: /--socket/,
      },
    ])
  },
)

t.test('manifest status shows the rejected ones with every problem', async (t) => {
  const rejected = { verdict: 'rejected', problems: ['web.json:1:2: unknown key'] } as const
  const manifests = healthyFacts.manifests.map((manifest) => ({ ...manifest, ...rejected }))
  const agent = await agentWith(t, { ...healthyFacts, manifests })
  const { printer, out } = paper(false)
  t.equal(await manifestStatus({ agent, printer }), 1)
  t.match(out(), /^web\.json +web +rejected[^]*web\.json:1:2: unknown key/m)
})

t.test(
  'manifest status says what an accepted one lacks, and what is no business of its',
  async (t) => {
    const [base] = healthyFacts.manifests
    if (base === undefined) throw new Error('there is a manifest')
    const warnings = ['it says nothing']
    const none = { health: 'none', published: false, certificateEndsMs: 0 } as const
    const caller = { ...base, ...none, warnings }
    const sick = {
      ...base,
      file: 'orders.json',
      service: 'orders',
      health: 'failing',
      healthDetail: 'status 500',
      published: false,
      withheld: 'its health check does not pass',
    } as const
    const portsDown = ['admin: ECONNREFUSED']
    const kept = { ...base, file: 'shop.json', verdict: 'rejected', portsDown } as const
    const agent = await agentWith(t, { ...healthyFacts, manifests: [caller, sick, kept] })
    const { printer, out } = paper(false)
    t.equal(await manifestStatus({ agent, printer }), 1)
    t.match(out(), /^web\.json +web +accepted +1 min 5 s ago +- +- +- +orders$/m)
    t.match(
      out(),
      /^orders: failing: status 500\norders: not published: its health check does not pass$/m,
    )
    t.match(out(), /^shop\.json +web +rejected, last good in force +1 min 5 s ago +passing/m)
    t.match(out(), /^web: port admin: ECONNREFUSED$/m)
    t.match(out(), /^web\.json: warning: it says nothing$/m)
  },
)

t.test('manifest status names a directory that cannot be read', async (t) => {
  const problem = 'cannot be read (EACCES)'
  const manifestDirectory = { path: '/etc/mesh.d', problem, cause: 'a', fix: 'chmod o+rx' }
  const status = { ...healthyFacts.status, manifestDirectory }
  const agent = await agentWith(t, { ...healthyFacts, status, manifests: [] })
  const { printer, out } = paper(false)
  t.equal(await manifestStatus({ agent, printer }), 1)
  t.match(out(), '/etc/mesh.d: cannot be read (EACCES) (chmod o+rx)')
})

t.test(
  'manifest status leaves out what an agent of an earlier version does not tell',
  async (t) => {
    const report = { ...healthyFacts.manifests[0], judgedAtMs: undefined }
    const manifestDirectory = { path: '/etc/mesh.d', problem: 'is gone' }
    const status = { ...healthyFacts.status, manifestDirectory }
    const agent = await agentWith(t, {
      ...healthyFacts,
      status,
      manifests: [report],
    } as unknown as AgentFacts)
    const { printer, out } = paper(false)
    t.equal(await manifestStatus({ agent, printer }), 1)
    t.match(out(), /^web\.json +web +accepted +- +passing/m)
    t.match(out(), /^\/etc\/mesh\.d: is gone$/m)
  },
)

t.test('no name of a file and no word of an agent steers the terminal', async (t) => {
  const evil = 'a\u001b[2Jb\u009bc\u202e'
  const rejected = { verdict: 'rejected', problems: [`${evil}:1:2: no`] } as const
  const manifests = healthyFacts.manifests.map((one) => ({ ...one, file: evil, ...rejected }))
  const agent = await agentWith(t, { ...healthyFacts, manifests })
  const { printer, out } = paper(false)
  await manifestStatus({ agent, printer })
  await check({ agent, printer, clock }, once)
  const dir = testDirectory(t, {
    [`${evil}.json`]: '{"port": 0}',
    [`${evil}good.json`]: '{"name": "a", "port": 1}',
  })
  const files = [`${evil}.json`, `${evil}good.json`, `${evil}absent`].map((name) => join(dir, name))
  manifestValidate({ printer }, { files })
  await check({ agent: new AdminSocket({ socketPath: join(dir, evil) }), printer, clock }, once)
  // oxlint-disable-next-line eslint/no-control-regex
  t.notMatch(out(), /[\u0000-\u0009\u000b-\u001f\u0080-\u009f\u202e]/)
  t.match(out(), /a\?\[2Jb\?c\?:1:2: no[^]*\.json:1:10[^]*good\.json: good/)
})

t.test('manifest validate needs no agent and names the place of each fault', async (t) => {
  const dir = testDirectory(t, { 'orders.json': '{"port": 8080}', 'bad.json': '{"port": 0}' })
  const good = paper(false)
  const files = [join(dir, 'orders.json')]
  t.equal(manifestValidate({ printer: good.printer }, { files }), 0)
  t.match(good.out(), /orders\.json: good/)
  const bad = paper(false)
  const all = [...files, join(dir, 'bad.json'), join(dir, 'absent.json')]
  t.equal(manifestValidate({ printer: bad.printer }, { files: all }), 1)
  t.match(bad.out(), /bad\.json:1:10: [^]*absent\.json: cannot be read/)
})

t.test('check gives each line of a cause a line, and none steers the terminal', async (t) => {
  const [good] = healthyFacts.manifests
  if (good === undefined) throw new Error('there is one')
  const bad = ['/m/a.json:1:2: no', '/m/b.json:1:2: \u001b[2J'].map((problem) => {
    return { ...good, verdict: 'rejected' as const, problems: [problem] }
  })
  const agent = await agentWith(t, { ...healthyFacts, manifests: bad })
  const { printer, out } = paper(false)
  t.equal(await check({ agent, printer, clock }, once), 1)
  t.match(out(), /^ +cause: \/m\/a\.json:1:2: no\n +\/m\/b\.json:1:2: \?\[2J\n +fix: {3}correct/m)
})

t.test('capture status says of who has no port that nothing comes in', async (t) => {
  const callers = [
    { service: 'orders', user: 1001, unit: null, problem: '', inbound: 'strict' },
    { service: 'web', user: 1002, unit: null, problem: '', inbound: 'none' },
  ] as const
  const limit = 'this kernel cannot masquerade'
  const capture = { ...healthyFacts.status.capture, kind: 'on', callers, limit } as const
  const agent = await agentWith(t, withStatus({ capture }))
  const { printer, out } = paper(false)
  t.equal(await captureStatus({ agent, printer }), 0)
  t.match(out(), /^orders +1001 +strict$/m)
  t.match(out(), /^web +1002 +-$/m)
  t.match(out(), /^limited +this kernel cannot masquerade$/m)
})

t.test('schema prints a JSON Schema', async (t) => {
  const { printer, out } = paper(false)
  t.equal(schema({ printer }), 0)
  t.match(JSON.parse(out()), { type: 'object', properties: { port: Object } })
})

t.test('token create prints the token alone, host list a table', async (t) => {
  const calls: unknown[] = []
  const controller = {
    call: async (...words: unknown[]) => {
      calls.push(words)
      return words[1] === 'CreateToken'
        ? { token: 'hmjoin1.x', expiresAtMs: 90_000 }
        : {
            hosts: [
              {
                host: 'alpha',
                services: ['*'],
                enrolledAt: '2026-01-01T00:00:00Z',
                ban: { reason: 'lost', at: '' },
                live: false,
                bansEpoch: 1,
              },
            ],
            serials: [{ serial: 'ab', reason: 'stolen', at: '2026-01-02' }],
          }
    },
  } as unknown as ControllerClient
  const token = paper(false)
  const settings = { host: 'alpha', services: ['orders'], ttlMs: 0 }
  const parts = { controller, printer: token.printer, now: () => 0 }
  t.equal(await tokenCreate(parts, settings), 0)
  t.equal(token.out(), 'hmjoin1.x\n')
  t.match(token.err(), /once, within 1 min 30 s/)
  t.equal(await tokenCreate(parts, { ...settings, host: 'Alpha!' }), 2)
  const hosts = paper(false)
  t.equal(await hostList({ controller, printer: hosts.printer }), 0)
  t.match(hosts.out(), /^alpha +banned: lost +\* +2026/m)
  t.match(hosts.out(), /^ab +2026-01-02 +stolen/m)
  t.equal(calls.length, 2)
})

t.test('parseTtl reads seconds to days and nothing else', async (t) => {
  t.same(['90s', '15m', '2h', '1d'].map(parseTtl), [90_000, 900_000, 7_200_000, 86_400_000])
  t.same(['', '5', '-1s', '1w', '1.5h', '1h '].map(parseTtl), Array.from({ length: 6 }).fill(null))
})

t.test(
  'meshctl says faults as itself, where to read on, its version, and how it is used',
  async (t) => {
    const run = (words: readonly string[]): Promise<{ out: string; err: string }> =>
      new Promise((resolve) => {
        execFile(process.execPath, [join(root, 'cli/main.ts'), ...words], (_error, out, err) =>
          resolve({ out, err }),
        )
      })
    const [fault, version, help, token] = await Promise.all([
      run(['stauts']),
      run(['--version']),
      run(['health', 'run', '--help']),
      run(['token', 'create', '--help']),
    ])
    t.match(
      fault.err,
      /^meshctl: unknown command 'stauts' \(Did you mean status\?\)\n +--help behind a verb/,
    )
    t.match(version.out, /^meshctl \d+\.\d+\.\d+\n$/)
    t.match(help.out, /^Usage: meshctl health run \[options\] <service> -- <command\.\.\.>$/m)
    t.match(help.out, /0 passes,\s+1 warns,\s+any\s+other\s+fails/)
    t.match(help.out, '(default: 30s)', 'as it would be written')
    t.match(token.out, /--ttl <time>[^-]*7d at\s+most\s+\(default: 1h\)/)
  },
)

t.test('meshctl exits 2 on a bad command line and 3 where nobody answers', async (t) => {
  const run = (words: readonly string[]): Promise<{ code: number; err: string }> =>
    new Promise((resolve) => {
      execFile(process.execPath, [join(root, 'cli/main.ts'), ...words], (error, _out, err) =>
        resolve({ code: typeof error?.code === 'number' ? error.code : 0, err }),
      )
    })
  const dir = shortDir(t)
  mkdirSync(join(dir, 'x'))
  writeFileSync(join(dir, 'operator.json'), '{}')
  const runs = await Promise.all([
    run(['no-such-verb']),
    run(['status', '--socket', join(dir, 'agent\u001b[2J.sock'), '--json']),
    run(['host', 'list', '--credential', join(dir, 'operator.json')]),
    run(['--help']),
  ])
  t.same(
    runs.map(({ code }) => code),
    [2, 3, 3, 0],
  )
  t.match(runs[1]?.err, /no agent answers on .*agent\?\[2J\.sock[^]*--socket/)
})

const explained: AuthzAnswer = {
  kind: 'explained',
  source: 'spiffe://mesh.internal/service/web',
  doubt: '',
  destination: 'spiffe://mesh.internal/service/orders',
  port: 8080,
  protocol: 'http',
  path: '/admin',
  verdict: 'denied',
  reason: 'policy-denied',
  by: 'no-admin (/p.json:3) denies this',
  ref: { rule: 'no-admin', file: '/p.json', line: 3 },
  audit: null,
  rules: [
    {
      effect: 'deny',
      mode: 'enforce',
      ref: { rule: 'no-admin', file: '/p.json', line: 3 },
      outcome: 'fits',
      why: '',
    },
  ],
}
const question = { source: 'web', service: 'orders', method: 'GET', path: '/admin', headers: [] }

t.test('authz explain names verdict, rule, file and line, and fails when denied', async (t) => {
  const agent = await agentWith(t, healthyFacts, explained)
  const person = paper(false)
  t.equal(await authzExplain({ agent, printer: person.printer }, question), 1)
  t.match(person.out(), /^verdict +denied \(policy-denied\)$/m)
  t.match(person.out(), /^rule +no-admin at \/p\.json:3$/m)
  t.match(person.out(), /^deny +enforce +no-admin +\/p\.json:3 +fits$/m)
  const script = paper(true)
  t.equal(await authzExplain({ agent, printer: script.printer }, question), 1)
  t.same(JSON.parse(script.out()), explained)
  const permitted = await agentWith(t, healthyFacts, { ...explained, verdict: 'permitted' })
  t.equal(await authzExplain({ agent: permitted, printer: person.printer }, question), 0)
})

t.test('authz explain says where to ask, and what a bad question lacks', async (t) => {
  const hosts = ['beta', 'gamma']
  const elsewhere = await agentWith(t, healthyFacts, { kind: 'elsewhere', service: 'files', hosts })
  const person = paper(false)
  t.equal(await authzExplain({ agent: elsewhere, printer: person.printer }, question), 1)
  t.match(person.out(), 'ask the agent of beta or gamma')
  const bad = await agentWith(t, healthyFacts)
  t.equal(await authzExplain({ agent: bad, printer: person.printer }, question), 2)
})

t.test(
  'authz list shows what holds, and fails when a service can be reached past it',
  async (t) => {
    const service = {
      service: 'orders',
      strict: true,
      fallback: 'deny',
      deny: 1,
      allow: 2,
      audit: false,
      protection: 'local-only',
      note: 'programs of this host can reach port 8080',
      idle: [],
    } as const
    const list = async (change: Partial<ServicePolicyReport>) => {
      const policies = { ...healthyFacts.policies, services: [{ ...service, ...change }] }
      const person = paper(false)
      const agent = await agentWith(t, { ...healthyFacts, policies })
      return { code: await authzList({ agent, printer: person.printer }), out: person.out() }
    }
    const fine = await list({})
    t.equal(fine.code, 0)
    t.match(fine.out, /^orders +deny +1 +2 +no +local-only$/m)
    t.match(fine.out, /^programs of this host can reach port 8080$/m)
    t.equal((await list({ protection: 'unprotected' })).code, 1)
  },
)
