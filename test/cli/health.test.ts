import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { AdminServer } from '#agent/admin/admin-server.ts'
import { AdminSocket } from '#cli/client/admin-socket.ts'
import { healthRun, healthTell, type HealthRunSettings } from '#cli/health.ts'
import { Printer } from '#cli/output/printer.ts'
import { createLogger } from '#shared/logging/logger.ts'
import type { HealthResult } from '#shared/model/admin-wishes.ts'
import { healthyFacts } from '#test/support/agent-facts.ts'
import { shortDir } from '#test/support/short-dir.ts'
import { root } from '#test/support/sources.ts'
import { testDirectory } from '#test/support/test-directory.ts'
import { thisMachine } from '#test/support/this-machine.ts'
import { until } from '#test/support/until.ts'

const logger = createLogger({ name: 'test', level: 'silent' })

/** An agent that takes results for `orders` only. */
async function agentOf(t: Test) {
  const socketPath = join(shortDir(t), 'agent.sock')
  const told: HealthResult[] = []
  const server = new AdminServer(
    {
      source: {
        status: () => healthyFacts.status,
        services: () => [],
        manifests: () => [],
        external: () => [],
        certificates: () => [],
        policies: () => healthyFacts.policies,
        machine: () => healthyFacts.machine,
        generations: async () => [],
        explain: () => ({ kind: 'bad-question', problem: 'none' }),
        explainCapture: async () => ({ kind: 'bad-question', problem: 'none' }),
      },
      logger,
      commands: {
        health: (input) => {
          const result = input as HealthResult
          if (result.service !== 'orders') {
            return { kind: 'refused', code: 'not-taken', problem: 'no such service', hint: 'look' }
          }
          told.push(result)
          return { kind: 'done', value: { service: 'orders', check: 'push' } }
        },
      },
    },
    { socketPath },
  )
  await server.start()
  t.teardown(() => server.stop())
  const out: string[] = []
  const streams = { out: (text: string) => void out.push(text), err: () => {} }
  const { killGroup } = thisMachine
  const agent = new AdminSocket({ socketPath })
  const printer = new Printer({ streams }, { json: false })
  const parts = { agent, printer, killGroup, beforeSignal: () => () => {} }
  const run = async (command: readonly string[], more: Partial<HealthRunSettings> = {}) => {
    await healthRun(parts, { service: 'orders', command, timeoutMs: 60_000, ...more })
    return told.at(-1)
  }
  return { parts, told, run, out: () => out.join('') }
}

t.test('health tells the agent what was seen', async (t) => {
  const { parts, told, out } = await agentOf(t)
  const result = { service: 'orders', outcome: 'warn', detail: 'disk is filling' } as const
  t.equal(await healthTell(parts, result), 0)
  t.strictSame(told, [result])
  t.equal(out(), 'orders: warn: disk is filling\n')
})

t.test('a result the agent does not take is told with its reason', async (t) => {
  const { parts } = await agentOf(t)
  const result = { service: 'x', outcome: 'pass', detail: '' } as const
  await t.rejects(healthTell(parts, result), {
    code: 'agent-refused',
    message: 'no such service',
    hint: 'look',
  })
})

t.test('health run brings the exit status and the last line of a command', async (t) => {
  const { run } = await agentOf(t)
  t.match(await run(['sh', '-c', 'echo one; echo two']), { outcome: 'pass', detail: 'two' })
  t.match(await run(['sh', '-c', 'echo hot >&2; exit 1'], { check: 'load' }), {
    outcome: 'warn',
    detail: 'hot',
    check: 'load',
  })
  t.match(await run(['sh', '-c', 'exit 2']), { outcome: 'fail', detail: 'exit status 2' })
  t.match(await run(['sh', '-c', 'kill -9 $$']), { outcome: 'fail', detail: 'SIGKILL' })
  t.match(await run(['/no/such/program']), { outcome: 'fail', detail: /ENOENT/ })
  const flood = await run(['sh', '-c', 'yes | head -c 1000000; echo; echo end'])
  t.match(flood, { outcome: 'pass', detail: 'end' })
})

t.test('health run ends a command that takes too long, with all it started', async (t) => {
  const { run } = await agentOf(t)
  const found = await run(['sh', '-c', 'sleep 600 & wait'], { timeoutMs: 100 })
  t.match(found, { outcome: 'fail', detail: 'no result within 100 ms' })
})

t.test(
  'health run that is told to end takes its command along, and ends by that signal',
  async (t) => {
    const { parts, told } = await agentOf(t)
    const meshctl = [join(root, 'cli/main.ts'), '--socket', parts.agent.path, 'health', 'run']
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      const file = join(testDirectory(t), signal)
      const script = `sleep 600 & echo $$ $! > ${file}.new; mv ${file}.new ${file}; wait`
      const child = spawn(process.execPath, [...meshctl, 'orders', '--', 'sh', '-c', script])
      await until('the command runs', () => existsSync(file))
      const pids = readFileSync(file, 'utf8').trim().split(' ').map(Number)
      t.teardown(() => pids.length === 2 && thisMachine.killGroup(pids[0] ?? Number.NaN))
      const ended = once(child, 'exit')
      child.kill(signal)
      t.strictSame(await ended, [null, signal])
      await until('both have ended', () => !pids.some((pid) => isRunning(pid)))
    }
    t.strictSame(told, [], 'and nothing was found')
  },
)

/** Not so of one that has ended, and that nobody has asked for yet. */
function isRunning(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}
