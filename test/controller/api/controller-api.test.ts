/** Holds the whole controller's API to its word, over its real port. */

import { createPublicKey, randomBytes } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import t from 'tap'
import { systemClock as clock } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import { makeCsr } from '#shared/pki/csr.ts'
import { formatJoinToken, parseJoinToken } from '#shared/pki/join-token.ts'
import { generateKey, keyToPem } from '#shared/pki/keys.ts'
import { must, parseTrustDomain } from '#shared/model/names.ts'
import { splitPem } from '#shared/pki/trust.ts'
import { readSvid } from '#shared/pki/svid.ts'
import { ControllerClient } from '#shared/rpc/controller-client.ts'
import type { ExpectedPeer } from '#shared/rpc/peer-check.ts'
import { startController } from '#test/support/controller.ts'
import type { RunningController } from '#test/support/controller.ts'
import { testDirectory } from '#test/support/test-directory.ts'

const trustDomain = must(parseTrustDomain('mesh.internal'))
const expected: ExpectedPeer = { kind: 'controller', trustDomain }
const key = await generateKey()
const csr = await makeCsr(key)

const controller = await startController(testDirectory(t), { leafTtlMs: 60_000 })
t.teardown(() => controller.stop())
const { bundlePem } = JSON.parse(readFileSync(controller.operatorFile, 'utf8')) as {
  bundlePem: string
}

function clientWith(chainPem?: string): ControllerClient {
  const own = chainPem === undefined ? {} : { chainPem, keyPem: keyToPem(key) }
  const credential = { bundlePem, ...own }
  return new ControllerClient({ clock, credential, expected }, { address: controller.address })
}

async function outcome(call: Promise<unknown>): Promise<string> {
  try {
    await call
    return 'ok'
  } catch (error) {
    return error instanceof MeshError ? error.code : String(error)
  }
}

/** Enrols a host and answers a client with its credential. */
async function enrolled(host: string, services = ['*']): Promise<ControllerClient> {
  const token = await controller.token({ host, services })
  const nobody = clientWith()
  const { certificate } = await nobody.call('Enrolment', 'Enrol', { token, csr, host })
  nobody.close()
  return clientWith(certificate.chainPem)
}

function auditLines(running: RunningController): string[] {
  return running.lines.flatMap(({ audit }) => (typeof audit === 'string' ? [audit] : []))
}

t.test('a token enrols one host, once, and leaves an audit line', async (t) => {
  const token = await controller.token({ host: 'web1', services: ['orders', 'carts-*'] })
  const nobody = clientWith()
  t.teardown(() => nobody.close())
  const enrol = (text: string, host = 'web1'): Promise<unknown> =>
    nobody.call('Enrolment', 'Enrol', { token: text, csr, host })

  t.equal(await outcome(enrol(token, 'web2')), 'token-for-another-host')
  const bad = nobody.call('Enrolment', 'Enrol', { token, csr: Buffer.from('x'), host: 'web1' })
  t.equal(await outcome(bad), 'bad-csr', 'a bad request does not use it up')
  const reply = await nobody.call('Enrolment', 'Enrol', { token, csr, host: 'web1' })
  t.match(reply, {
    host: 'web1',
    certificate: { spiffeId: 'spiffe://mesh.internal/host/web1' },
    mesh: { trustDomain: 'mesh.internal', trustBundlePem: bundlePem, controller: 'c1' },
  })
  t.equal(await outcome(enrol(token)), 'token-used')
  await t.rejects(enrol(token), { message: /: meshctl token create web1 --service '\*'$/ })

  const parts = must(parseJoinToken(token))
  const forged = formatJoinToken({ ...parts, secret: randomBytes(32) })
  t.equal(
    await outcome(enrol(forged)),
    'token-unknown',
    'a used id without its secret says nothing',
  )
  const unknown = formatJoinToken({ ...parts, id: 'AAAAAAAAAAAAAAAA' })
  t.equal(await outcome(enrol(unknown)), 'token-unknown')
  const foreign = formatJoinToken({ ...parts, rootHash: randomBytes(32) })
  t.equal(await outcome(enrol(foreign)), 'token-foreign')
  for (const text of ['', 'hello', `${token}x`]) {
    t.equal(await outcome(enrol(text)), 'token-malformed')
  }
  t.ok(auditLines(controller).includes('token-created'))
  t.ok(auditLines(controller).includes('host-enrolled'))
  t.ok(auditLines(controller).includes('enrolment-refused'))
  t.notMatch(JSON.stringify(controller.lines), parts.secret.toString('base64url'))
})

t.test('of many hosts that try one token at once, one gets in', async (t) => {
  const token = await controller.token({ host: 'race' })
  const nobody = clientWith()
  t.teardown(() => nobody.close())
  const tries = Array.from({ length: 8 }, () =>
    outcome(nobody.call('Enrolment', 'Enrol', { token, csr, host: 'race' })),
  )
  const ends = (await Promise.all(tries)).sort()
  t.same(ends, ['ok', ...Array.from({ length: 7 }, () => 'token-used')])
})

t.test('a host renews itself and gets the services its record allows, nothing else', async (t) => {
  const host = await enrolled('web3', ['orders', 'carts-*'])
  t.teardown(() => host.close())
  const renewed = await host.call('Certificates', 'RenewHost', { csr })
  t.equal(renewed.spiffeId, 'spiffe://mesh.internal/host/web3')

  const issue = (service: string): Promise<unknown> =>
    host.call('Certificates', 'IssueService', { service, csr })
  const issued = await host.call('Certificates', 'IssueService', { service: 'orders', csr })
  const [leaf] = must(splitPem(issued.chainPem))
  if (leaf === undefined) throw new Error('no leaf')
  t.match(readSvid(leaf.raw, trustDomain), {
    ok: true,
    value: { id: 'spiffe://mesh.internal/service/orders', dnsNames: ['web3.host.mesh.internal'] },
  })
  t.ok(leaf.publicKey.equals(createPublicKey(key)))
  t.ok(issued.notAfterMs - Date.now() <= 60_000)

  t.equal(await outcome(issue('carts-eu')), 'ok')
  for (const service of ['carts', 'orders2', 'admin', 'web3']) {
    t.equal(await outcome(issue(service)), 'service-not-allowed', service)
  }
  for (const service of ['', 'Orders', 'orders/../admin', '*', 'or,ders', 'orders\0']) {
    t.equal(await outcome(issue(service)), 'bad-service-name', JSON.stringify(service))
  }
  const bad = host.call('Certificates', 'IssueService', { service: 'orders', csr: csr.subarray(1) })
  t.equal(await outcome(bad), 'bad-csr')
  t.ok(auditLines(controller).includes('certificate-issued'))
  t.ok(auditLines(controller).includes('certificate-refused'))
})

t.test('each kind of caller may call its own part only', async (t) => {
  const host = await enrolled('web4')
  const operator = await controller.operator()
  const service = await host.call('Certificates', 'IssueService', { service: 'orders', csr })
  const asService = clientWith(service.chainPem)
  const outcomes = async (client: ControllerClient): Promise<readonly string[]> => [
    await outcome(client.call('Certificates', 'RenewHost', { csr })),
    await outcome(client.call('Certificates', 'IssueService', { service: 'orders', csr })),
    await outcome(client.call('Certificates', 'DescribeMesh', {})),
    await outcome(
      client.call('Operations', 'CreateToken', { host: 'x', services: ['*'], ttlMs: 0 }),
    ),
    await outcome(client.call('Operations', 'ListHosts', {})),
  ]
  t.same(await outcomes(host), ['ok', 'ok', 'ok', 'not-an-operator', 'not-an-operator'])
  t.same(await outcomes(operator), ['not-a-host', 'not-a-host', 'ok', 'ok', 'ok'])
  const nothing = ['not-a-host', 'not-a-host', 'ok', 'not-an-operator', 'not-an-operator']
  t.same(await outcomes(asService), nothing)
  for (const client of [host, operator, asService]) client.close()
})

t.test('an operator lists hosts, and its orders are checked', async (t) => {
  ;(await enrolled('web5', ['a', 'b-*'])).close()
  const operator = await controller.operator()
  t.teardown(() => operator.close())
  const { hosts } = await operator.call('Operations', 'ListHosts', {})
  t.match(
    hosts.find(({ host }) => host === 'web5'),
    { services: ['a', 'b-*'], enrolledAt: /^20\d\d-/ },
  )
  const create = (order: { host?: string; services?: string[]; ttlMs?: number }): Promise<string> =>
    outcome(
      operator.call('Operations', 'CreateToken', {
        host: 'x',
        services: ['*'],
        ttlMs: 0,
        ...order,
      }),
    )
  t.equal(await create({ host: 'Bad Host' }), 'bad-host-name')
  t.equal(await create({ host: '' }), 'bad-host-name')
  t.equal(await create({ services: [] }), 'bad-services')
  t.equal(await create({ services: ['Bad'] }), 'bad-services')
  t.equal(await create({ ttlMs: 1 }), 'bad-ttl')
  t.equal(await create({ ttlMs: -1 }), 'bad-ttl')
  t.equal(await create({ ttlMs: 30 * 86_400_000 }), 'bad-ttl')
  t.equal(statSync(controller.operatorFile).mode & 0o777, 0o600)
})

t.test(
  'an operator puts, lists and removes policies of the mesh; faulty ones are refused',
  async (t) => {
    const operator = await controller.operator()
    t.teardown(() => operator.close())
    const text = '{"services": ["orders"], "allow": [{"from": ["web"]}]}'
    const put = (name: string, policy: string) =>
      operator.call('Policies', 'PutPolicy', { name, text: policy })
    t.match(await put('orders', text), { changed: true, epoch: 2 })
    t.match(await put('orders', text), { changed: false, epoch: 2 })
    t.match(await operator.call('Policies', 'ListPolicies', {}), {
      policies: [{ name: 'orders', text, by: 'spiffe://mesh.internal/operator/admin' }],
    })
    for (const bad of ['', '{', '{"services": ["orders"]}', '{"services": ["a"], "deney": []}']) {
      t.equal(await outcome(put('orders', bad)), 'bad-policy', bad)
    }
    await t.rejects(put('orders', '{\n"services": ["a"],\n"deney": []}'), {
      message: /mesh-policies\/orders\.json:3:1: unknown key "deney" \(did you mean "deny"\?\)/,
    })
    t.equal(await outcome(put('orders', `{}${' '.repeat(40_000)}`)), 'bad-policy')
    for (const name of ['', '../x', '__proto__', 'A']) {
      t.equal(await outcome(put(name, text)), 'bad-policy-name', name)
    }
    const remove = (name: string) => operator.call('Policies', 'RemovePolicy', { name })
    t.match(await remove('toString'), { changed: false })
    t.match(await remove('orders'), { changed: true, epoch: 3 })
    const host = await enrolled('policies1')
    t.teardown(() => host.close())
    t.equal(
      await outcome(host.call('Policies', 'PutPolicy', { name: 'a', text })),
      'not-an-operator',
    )
    t.equal(await outcome(host.call('Policies', 'RemovePolicy', { name: 'a' })), 'not-an-operator')
    t.equal(await outcome(host.call('Policies', 'ListPolicies', {})), 'not-an-operator')
  },
)

t.test('calls are counted, and metrics and readiness served', async (t) => {
  const base = `http://127.0.0.1:${controller.ports.metrics}`
  const metrics = await (await fetch(`${base}/metrics`)).text()
  t.match(metrics, /mesh_controller_calls_total\{method="Enrol",code="token-used"\} \d+/)
  t.match(metrics, /mesh_controller_connections_open\{port="api"\} \d+/)
  t.match(metrics, /mesh_controller_certificate_expiry_timestamp_seconds\{certificate="root"\} \d+/)
  t.equal((await fetch(`${base}/readyz`)).status, 200)
  t.equal((await fetch(`${base}/healthz`)).status, 200)
  t.equal((await fetch(`${base}/shutdown`)).status, 404)
  t.equal((await fetch(`${base}/metrics`, { method: 'POST' })).status, 405)
})
