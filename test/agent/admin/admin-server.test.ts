import { existsSync, statSync } from 'node:fs'
import { request } from 'node:http'
import { createServer } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import type { AdminCommands } from '#agent/admin/admin-commands.ts'
import { AdminServer } from '#agent/admin/admin-server.ts'
import { createLogger } from '#shared/logging/logger.ts'
import { healthyFacts } from '#test/support/agent-facts.ts'
import { shortDir } from '#test/support/short-dir.ts'

const logger = createLogger({ name: 'test', level: 'silent' })
const source = {
  status: () => healthyFacts.status,
  services: () => healthyFacts.services,
  manifests: () => healthyFacts.manifests,
  external: () => healthyFacts.external,
  certificates: () => healthyFacts.certificates,
  policies: () => healthyFacts.policies,
  machine: () => healthyFacts.machine,
  generations: async () => [],
  explainCapture: async (query: URLSearchParams) =>
    ({ kind: 'bad-question', problem: query.get('to') ?? '' }) as const,
  explain: (query: URLSearchParams) =>
    ({ kind: 'bad-question', problem: query.get('source') ?? '' }) as const,
}

interface Reply {
  readonly status: number
  readonly body: string
}

function ask(socketPath: string, path: string, method = 'GET', sends = ''): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath, path, method, agent: false }, (response) => {
      let body = ''
      response.setEncoding('utf8').on('data', (chunk: string) => (body += chunk))
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body }))
    })
    sent.on('error', reject).end(sends)
  })
}

t.test('AdminServer answers every fact, and the checks, as JSON', async (t) => {
  const socketPath = join(shortDir(t), 'agent.sock')
  const server = new AdminServer({ source, logger }, { socketPath })
  await server.start()
  t.teardown(() => server.stop())
  t.equal(statSync(socketPath).mode & 0o777, 0o660)
  for (const name of ['status', 'services', 'manifests', 'certificates', 'policies'] as const) {
    const reply = await ask(socketPath, `/v1/${name}?x=1`)
    t.equal(reply.status, 200)
    t.same(JSON.parse(reply.body), healthyFacts[name])
  }
  const explained = await ask(socketPath, '/v1/authz/explain?source=host%2Fh1')
  t.same(JSON.parse(explained.body), { kind: 'bad-question', problem: 'host/h1' })
  const fate = await ask(socketPath, '/v1/capture/explain?to=10.0.0.5%3A80')
  t.same(JSON.parse(fate.body), { kind: 'bad-question', problem: '10.0.0.5:80' })
  const checks = JSON.parse((await ask(socketPath, '/v1/checks')).body) as unknown[]
  t.match(checks[0], { name: 'agent-ready', verdict: 'ok' })
})

t.test('AdminServer refuses other paths and methods', async (t) => {
  const socketPath = join(shortDir(t), 'agent.sock')
  const server = new AdminServer({ source, logger }, { socketPath })
  await server.start()
  t.teardown(() => server.stop())
  for (const path of ['/', '/v1', '/v1/../v1/status', '/__proto__', '/constructor'])
    t.equal((await ask(socketPath, path)).status, 404, path)
  t.match(JSON.parse((await ask(socketPath, '/x')).body), { error: { code: 'unknown-path' } })
  t.equal((await ask(socketPath, '/v1/status', 'DELETE')).status, 405)
  t.equal((await ask(socketPath, '/v1/status', 'POST', '{}')).status, 404)
  t.same(await ask(socketPath, '/v1/status', 'HEAD'), { status: 200, body: '' })
})

t.test('AdminServer carries out commands, and says why not', async (t) => {
  const socketPath = join(shortDir(t), 'agent.sock')
  const commands: AdminCommands = {
    echo: (input) => ({ kind: 'done', value: { input } }),
    refuse: async () => ({ kind: 'refused', code: 'no', problem: 'not today', hint: 'tomorrow' }),
  }
  const server = new AdminServer({ source, logger, commands }, { socketPath })
  await server.start()
  t.teardown(() => server.stop())
  const post = (name: string, sends: string) => ask(socketPath, `/v1/${name}`, 'POST', sends)
  t.same(JSON.parse((await post('echo', '{"a": 1}')).body), { input: { a: 1 } })
  const refused = await post('refuse', '{}')
  t.equal(refused.status, 409)
  t.match(JSON.parse(refused.body), {
    error: { code: 'no', message: 'not today', hint: 'tomorrow' },
  })
  t.equal((await post('echo', '{"a"')).status, 400)
  t.equal((await post('toString', '{}')).status, 404)
  t.equal((await post('echo', JSON.stringify('x'.repeat(20_000)))).status, 413)
  t.equal((await post('echo', JSON.stringify('x'.repeat(10_000)))).status, 200)
})

t.test('AdminServer survives a fact that cannot be told', async (t) => {
  const socketPath = join(shortDir(t), 'agent.sock')
  const broken = {
    ...source,
    services: () => {
      throw new Error('boom')
    },
  }
  const server = new AdminServer({ source: broken, logger }, { socketPath })
  await server.start()
  t.teardown(() => server.stop())
  t.equal((await ask(socketPath, '/v1/services')).status, 500)
  t.equal((await ask(socketPath, '/v1/status')).status, 200)
})

t.test('AdminServer replaces the socket of a dead agent but not of a living one', async (t) => {
  const socketPath = join(shortDir(t), 'agent.sock')
  const first = new AdminServer({ source, logger }, { socketPath })
  await first.start()
  const second = new AdminServer({ source, logger }, { socketPath })
  await t.rejects(second.start(), { code: 'agent-already-runs' })
  await first.stop()
  t.notOk(existsSync(socketPath))
  const dead = createServer().listen(socketPath)
  await new Promise((resolve) => dead.once('listening', resolve))
  dead.close()
  await second.start()
  t.equal((await ask(socketPath, '/v1/status')).status, 200)
  await second.stop()
})
