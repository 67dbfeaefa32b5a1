import { once } from 'node:events'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { systemClock as clock } from '#shared/lifecycle/clock.ts'
import { openOperatorClient } from '#shared/rpc/operator-file.ts'
import { placeAgent, runAgent, type AgentPlace } from '#test/support/agent-process.ts'
import { runController, type ControllerProcess } from '#test/support/controller-process.ts'
import { shortDir } from '#test/support/short-dir.ts'
import { until as untilWithin } from '#test/support/until.ts'

t.setTimeout(600_000)

const until = (what: string, ask: () => boolean | Promise<boolean>): Promise<boolean> =>
  untilWithin(what, ask, { withinMs: 120_000 })

const home = mkdtempSync(join(tmpdir(), 'hm-'))
const controllers: ControllerProcess[] = []
t.teardown(async () => {
  for (const { child, ended } of controllers) {
    child.kill('SIGKILL')
    await ended
  }
  rmSync(home, { recursive: true, force: true })
})

/** Starts a controller; answers its address and how to make tokens of its mesh. */
async function startMesh(name: string) {
  const directory = join(home, name)
  mkdirSync(directory)
  const controller = runController(directory)
  controllers.push(controller)
  const { api } = await controller.ready
  const token = async (host: string): Promise<string> => {
    const file = `${directory}/state/operator.json`
    const operator = await openOperatorClient({ clock }, { file })
    const settings = { host, services: ['*'], ttlMs: 0 }
    const made = await operator.call('Operations', 'CreateToken', settings)
    operator.close()
    return made.token
  }
  return { controller: `127.0.0.1:${api}`, token }
}

const [mine, other] = await Promise.all([startMesh('mine'), startMesh('other')])

/** Runs an agent that must not start: one line, an exit code, and nothing left but its state. */
async function refused(
  t: Test,
  words: readonly string[],
  expected: { readonly code: number; readonly line: RegExp },
): Promise<void> {
  const { code, stderr } = await runAgent(words).ended
  t.equal(code, expected.code)
  t.match(stderr, expected.line)
  t.match(stderr, /^mesh-agent: /)
  t.notMatch(stderr, '()')
  t.equal(stderr.trim().split('\n').length, 1, stderr)
}

function place(t: Test, more: Readonly<Record<string, unknown>> = {}): AgentPlace {
  return placeAgent(shortDir(t), { controller: mine.controller, ...more })
}

const supervise = (at: AgentPlace): readonly string[] => ['supervise', '--config', at.configPath]
const sockets = (at: AgentPlace): readonly string[] => {
  const directory = join(at.directory, 'run')
  if (!existsSync(directory)) return []
  return readdirSync(directory, { encoding: 'utf8', recursive: true }).filter((name) =>
    name.endsWith('.sock'),
  )
}

t.test('a command line that makes no sense is answered with the usage', async (t) => {
  for (const words of [[], ['serve'], ['proxy', '--bogus'], ['proxy', '--worker', 'x']]) {
    const { code, stderr } = await runAgent(words).ended
    t.equal(code, 64, words.join(' '))
    t.match(stderr, /^mesh-agent: .*\nusage: /)
  }
})

t.test('a config that cannot be read is named', async (t) => {
  const missing = '/no/such/agent.json'
  await refused(t, ['supervise', '--config', missing], {
    code: 78,
    line: /\/no\/such\/agent\.json: cannot read the config: ENOENT/,
  })
  const directory = shortDir(t)
  await refused(t, ['supervise', '--config', directory], { code: 78, line: /EISDIR/ })
  // The memory of a process cannot be read at its beginning, as a bad disk cannot.
  const failing = '/proc/self/mem'
  await refused(t, ['supervise', '--config', failing], { code: 1, line: /config: EIO/ })
})

t.test('every fault of a config is told at once, each with its place', async (t) => {
  const at = place(t, { drainMs: -1, accessLog: 'sometimes', colour: 'red', zone: 7 })
  const { code, stderr } = await runAgent(supervise(at)).ended
  t.equal(code, 78)
  const lines = stderr.trim().split('\n')
  t.equal(lines.length, 4, stderr)
  for (const key of ['drainMs', 'accessLog', 'colour', 'zone']) {
    const line = lines.find((one) => one.includes(key)) ?? ''
    t.match(line, new RegExp(`^mesh-agent: ${at.configPath}:[0-9]+:[0-9]+: .`))
  }
  for (const name of ['state', 'run']) t.notOk(existsSync(join(at.directory, name)), name)
})

t.test('a join token that does not serve is refused, whatever is wrong with it', async (t) => {
  const good = await mine.token('h1')
  const used = place(t)
  writeFileSync(used.tokenPath, good)
  const first = runAgent(supervise(used))
  t.teardown(() => void first.child.kill('SIGKILL'))
  await until('it has enrolled', () => first.output().includes('"host enrolled"'))
  first.child.kill('SIGINT')
  t.same(await first.ended, { code: 0, stderr: '' })

  const tokens = {
    malformed: 'hmjoin1.rubbish',
    'of another mesh': await other.token('h1'),
    'of another host': await mine.token('h2'),
    replayed: good,
  }
  const lines = {
    malformed: /the join token is malformed/,
    'of another mesh': /does not present the root certificate the join token pins/,
    'of another host': /the join token is for host "h2", this host goes by "h1"/,
    replayed: /the join token was used for host h1/,
  }
  for (const kind of ['malformed', 'of another mesh', 'of another host', 'replayed'] as const) {
    const at = place(t)
    writeFileSync(at.tokenPath, tokens[kind])
    await refused(t, supervise(at), { code: 77, line: lines[kind] })
    t.same(readdirSync(join(at.directory, 'state/identity')), [], `nothing is kept: ${kind}`)
    t.same(sockets(at), [])
  }
})

t.test('a port that is taken is named, whichever it is', async (t) => {
  const squatter = createServer()
  squatter.listen(0, '127.0.0.1')
  await once(squatter, 'listening')
  t.teardown(() => void squatter.close())
  const taken = `127.0.0.1:${(squatter.address() as { readonly port: number }).port}`
  for (const name of ['tunnel', 'forwardProxy', 'metrics']) {
    const at = place(t)
    const { listen } = JSON.parse(readFileSync(at.configPath, 'utf8')) as {
      readonly listen: Readonly<Record<string, string>>
    }
    const listening = { ...listen, [name]: taken }
    const configured = placeAgent(at.directory, {
      controller: mine.controller,
      listen: listening,
    })
    writeFileSync(configured.tokenPath, await mine.token('h1'))
    await refused(t, supervise(configured), { code: 69, line: new RegExp(taken) })
    t.same(sockets(configured), [])
  }
})

t.test('state of a newer version is left alone', async (t) => {
  const at = place(t)
  const file = join(at.directory, 'state/identity/host.json')
  mkdirSync(join(at.directory, 'state/identity'), { recursive: true })
  writeFileSync(file, '{"format":2}')
  writeFileSync(at.tokenPath, await mine.token('h1'))
  await refused(t, supervise(at), { code: 78, line: /host\.json has format 2/ })
  t.equal(readFileSync(file, 'utf8'), '{"format":2}')
})

t.test('a second agent on one run directory is refused, and the first goes on', async (t) => {
  const at = place(t)
  const first = runAgent(['control', '--config', at.configPath])
  t.teardown(async () => {
    first.child.kill('SIGKILL')
    await first.ended
  })
  await until('its sockets are there', () => sockets(at).length === 3)
  for (const role of ['control', 'supervise']) {
    await refused(t, [role, '--config', at.configPath], { code: 69, line: /another agent answers/ })
  }
  t.notMatch(first.output(), '"worker connected"', 'no worker of a second one has come to it')
  t.same([...sockets(at)].sort(), [
    'agent.sock',
    ...['applications', 'control'].map((name) => `workers/${name}.sock`),
  ])
})

t.test('a bad manifest is told once, and nothing else suffers', async (t) => {
  const at = place(t)
  const manifests = join(at.directory, 'mesh.d')
  mkdirSync(manifests)
  const drop = (name: string, text: string): void => {
    writeFileSync(join(manifests, `.${name}.new`), text)
    renameSync(join(manifests, `.${name}.new`), join(manifests, `${name}.json`))
  }
  drop('orders', '{"port": 8080}')
  drop('files', '{"port": 8081}')
  const agent = runAgent(['control', '--config', at.configPath])
  t.teardown(async () => {
    agent.child.kill('SIGKILL')
    await agent.ended
  })
  interface Line {
    readonly msg: string
    readonly file?: string
    readonly problems?: readonly string[]
    readonly rules?: readonly string[]
  }
  const lines = (msg: string): readonly Line[] =>
    agent
      .output()
      .split('\n')
      // What follows the last line break is no whole line yet.
      .slice(0, -1)
      .filter((line) => line.includes(`"${msg}"`))
      .map((line) => JSON.parse(line) as Line)
  const receipt = (name: string): Readonly<Record<string, unknown>> => {
    const path = join(at.directory, 'run/status', `${name}.json`)
    return existsSync(path)
      ? (JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>)
      : {}
  }
  await until('both are accepted', () => lines('manifest accepted').length === 2)
  const bad = '{\n  "port": 8080,\n  "protocol": "gopher"\n}\n'
  drop('orders', bad)
  drop('broken', '{"port":')
  await until('both are told', () => lines('manifest rejected').length === 2)
  drop('last', '{"port": 8082}')
  await until('a later one is accepted', () => receipt('last')['verdict'] === 'accepted')
  for (const [name, verdict] of [
    ['orders', 'rejected'],
    ['broken', 'rejected'],
    ['files', 'accepted'],
  ] as const)
    await until(`${name} has its receipt`, () => receipt(name)['verdict'] === verdict)
  const told = lines('manifest rejected')
  t.equal(told.length, 2, 'each once')
  const [orders] = told.filter(({ file }) => file?.endsWith('orders.json'))
  t.match(orders, {
    problems: [new RegExp(`^${manifests}/orders\\.json:3:15: `)],
    rules: [/./],
  })
  t.match(receipt('orders'), {
    verdict: 'rejected',
    inForce: 'last good version',
    problems: [{ line: 3, column: 15, rule: /./ }],
  })
  t.match(receipt('broken'), { verdict: 'rejected', inForce: 'nothing', problems: [{ line: 1 }] })
  t.match(receipt('files'), { verdict: 'accepted', inForce: 'this version' })
})
