import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { InstanceLoads } from '#agent/balance/instance-loads.ts'
import { Inbound } from '#agent/inbound/inbound.ts'
import { LocalInstances } from '#agent/inbound/local-instances.ts'
import { LocalDialler } from '#agent/relay/dial-local.ts'
import { RelayWatch } from '#agent/relay/relay-watch.ts'
import { ChannelPool } from '#agent/tunnel/channel-pool.ts'
import type { IncomingCall } from '#agent/tunnel/tunnel-listener.ts'
import { findProgram } from '#cli/find-program.ts'
import { systemClock as clock, systemRandom as random } from '#shared/lifecycle/clock.ts'
import { must, parseServiceName } from '#shared/model/names.ts'
import type { Outcome } from '#shared/model/outcome.ts'
import type { Policy } from '#shared/model/policy.ts'
import { serviceId } from '#shared/model/spiffe-id.ts'
import { PolicyTable } from '#shared/policy/policy-table.ts'
import { FakeChannel } from '#test/support/fake-channel.ts'
import { ForgivingService } from '#test/support/forgiving-service.ts'
import { freePort } from '#test/support/free-port.ts'
import { lacks } from '#test/support/needs.ts'
import { policyOf } from '#test/support/policies.ts'
import { self, snapshotOf, trustDomain } from '#test/support/snapshots.ts'
import {
  hostSpellings,
  methodSpellings,
  pathSpellings,
  type Spelling,
} from '#test/support/spellings.ts'
import { testDirectory } from '#test/support/test-directory.ts'
import { until } from '#test/support/until.ts'

const orders = must(parseServiceName('orders'))
const peer = serviceId(trustDomain, must(parseServiceName('web')))
const services = ['orders']

/** Requests under way at once. */
const atOnce = 32

class Stream extends FakeChannel {
  readonly #granted = Promise.withResolvers<void>()
  readonly granted = this.#granted.promise
  accept(): void {
    this.#granted.resolve()
  }
  refuse(): void {
    throw new Error('the stream as such is allowed')
  }
}

/** Sends each request on a stream of its own to a service behind the callee's side of the journey. */
async function sendAll(
  port: number,
  policies: readonly Policy[],
  spellings: readonly Spelling[],
): Promise<readonly { readonly name: string; readonly answer: string; readonly reason: string }[]> {
  const snapshot = snapshotOf([{ service: 'orders', host: self, port }], [], policies)
  const loads = new InstanceLoads({ shareOf: (limit) => limit })
  loads.apply(snapshot.local)
  const table = new PolicyTable()
  const instances = new LocalInstances({
    local: new LocalDialler({ clock, random }, { source: '127.0.0.6', timeoutMs: 10_000 }),
    makePool: () => new ChannelPool({ clock }),
    policies: table,
    loads,
  })
  table.apply(snapshot)
  instances.apply(snapshot)
  const send = async ({ name, request }: Spelling) => {
    const outcomes: Outcome[] = []
    const over = Promise.withResolvers<void>()
    const record = (outcome: Outcome): void => {
      outcomes.push(outcome)
      over.resolve()
    }
    const watch = new RelayWatch({ clock })
    const counters = { tally: () => {} }
    const inbound = new Inbound({ instances, outcomes: { record }, watch, clock, random, counters })
    const stream = new Stream()
    const authority = `1.orders.mesh:${port}`
    inbound.accept({ peer, service: orders, authority, stream } as unknown as IncomingCall)
    await stream.granted
    stream.says(request)
    await over.promise
    const answer = stream.heard
    stream.close(null)
    return { name, answer, reason: outcomes[0]?.reason ?? '' }
  }
  const results = []
  for (let at = 0; at < spellings.length; at += atOnce) {
    results.push(...(await Promise.all(spellings.slice(at, at + atOnce).map(send))))
  }
  instances.apply(snapshotOf([]))
  return results
}

const cases = {
  path: {
    spellings: pathSpellings(),
    deny: policyOf({ services, deny: [{ paths: ['/admin/*'] }] }),
    allow: policyOf({ services, allow: [{ paths: ['/public/*', '/'] }] }),
  },
  method: {
    spellings: methodSpellings(),
    deny: policyOf({ services, deny: [{ methods: ['DELETE'] }] }),
    allow: policyOf({ services, allow: [{ methods: ['GET', 'POST', 'PUT', 'PATCH'] }] }),
  },
  host: {
    spellings: hostSpellings(),
    deny: policyOf({ services, deny: [{ hosts: ['admin.mesh'] }] }),
    allow: policyOf({ services, allow: [{ hosts: ['orders.mesh'] }] }),
  },
} as const

for (const [what, { spellings, deny, allow }] of Object.entries(cases)) {
  t.test(
    `no spelling of a forbidden ${what} reaches a service that forgives everything`,
    async (t) => {
      const service = await ForgivingService.start(t)
      await sendAll(service.port, [], spellings)
      t.comment(`${spellings.length} spellings, ${service.reached.length} mean it to this service`)
      t.ok(service.reached.length > 50, 'without a policy many reach it')
      for (const policy of [deny, allow]) {
        service.reached.length = 0
        const results = await sendAll(service.port, [policy], spellings)
        t.same(service.reached, [])
        const reasons = new Set(results.map(({ reason }) => reason))
        t.ok(reasons.has('policy-denied') && reasons.has('ambiguous-request'), [...reasons].join())
      }
    },
  )
}

t.test('there are at least 500 spellings', async (t) => {
  const count = Object.values(cases).reduce((sum, { spellings }) => sum + spellings.length, 0)
  t.ok(count >= 500, `${count}`)
})

t.test(
  'no spelling of a forbidden path, method or host reaches what nginx keeps there',
  { skip: lacks('nginx') },
  async (t) => {
    const port = await startNginx(t)
    for (const [what, { spellings, deny, allow }] of Object.entries(cases)) {
      const open = await sendAll(port, [], spellings)
      const count = open.filter(({ answer }) => answer.includes(`secret ${what}`)).length
      t.comment(`${what}: ${count} of ${spellings.length} mean it to nginx`)
      t.ok(count > 0, what)
      for (const policy of [deny, allow]) {
        const results = await sendAll(port, [policy], spellings)
        const reached = results.filter(({ answer }) => answer.includes(`secret ${what}`))
        t.same(
          reached.map(({ name }) => name),
          [],
        )
      }
    }
  },
)

async function startNginx(t: Test): Promise<number> {
  const directory = testDirectory(t)
  const port = await freePort()
  mkdirSync(`${directory}/logs`)
  writeFileSync(
    `${directory}/nginx.conf`,
    `daemon off; master_process off; pid ${directory}/pid; error_log ${directory}/error.log;
     events { worker_connections 512; }
     http {
       access_log off; client_body_temp_path ${directory}/body; proxy_temp_path ${directory}/proxy;
       fastcgi_temp_path ${directory}/f; uwsgi_temp_path ${directory}/u; scgi_temp_path ${directory}/s;
       server { listen 127.0.0.1:${port} default_server; server_name admin.mesh;
         location / { return 200 "secret host"; } }
       server { listen 127.0.0.1:${port}; server_name orders.mesh;
         if ($request_method = DELETE) { return 200 "secret method"; }
         location ~* ^/admin(/|$) { return 200 "secret path"; }
         location / { return 200 "public"; } }
     }`,
  )
  const child = spawn(
    findProgram('nginx') ?? 'nginx',
    ['-p', directory, '-c', `${directory}/nginx.conf`],
    {
      stdio: 'ignore',
    },
  )
  t.teardown(async () => {
    child.kill()
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  })
  await until('nginx answers', async () =>
    fetch(`http://127.0.0.1:${port}/`).then(
      () => true,
      () => false,
    ),
  )
  return port
}
