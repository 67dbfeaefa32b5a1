/**
 * Owns the agent's command line: arguments, environment, signals and exit codes, and is the only
 * agent file that touches `process`. Four programs start here: `control` (the control process),
 * `proxy` (a worker), `guard` (what stays when both are gone) and `supervise` (all of them, where
 * there is no systemd).
 */

import { mkdirSync, readFileSync } from 'node:fs'
import { flushCompileCache } from 'node:module'
import { parseArgs } from 'node:util'
import { systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import { findServiceManager } from '#shared/lifecycle/service-manager.ts'
import { createLogger } from '#shared/logging/logger.ts'
import { renderProblem } from '#shared/schema/problem.ts'
import { machineFacts, readAgentConfig, type AgentConfig } from './config.ts'
import { exitCodes } from './exit-codes.ts'

const roles = ['control', 'proxy', 'guard', 'supervise'] as const
const usage =
  'usage: main.ts control|proxy|guard|supervise [--config <file>] [--worker <generation>-<index>]'
const defaultConfig = '/etc/mesh/agent.json'

/**
 * V8 flags of workers. Bodies pass through buffers outside the heap, up to 64 KiB each. By default V8
 * marks the whole heap again for every 64 MiB of them, and with the first flag alone for little more
 * while the heap is small; both together leave them to the cheap minor collections.
 */
const proxyFlags = [
  '--external-memory-accounted-in-global-limit',
  '--initial-old-space-size=64',
] as const

/**
 * Where the agent's programs keep their compiled code: with it they need no TypeScript stripper, so
 * a worker starts in a quarter of the time and takes 40 MiB less. Only the agent may write there.
 */
function compileCache(state: string): { readonly NODE_COMPILE_CACHE?: string } {
  if (process.env['NODE_COMPILE_CACHE'] !== undefined) return {}
  const directory = `${state}/compile-cache`
  try {
    mkdirSync(state, { recursive: true, mode: 0o700 })
    mkdirSync(directory, { recursive: true, mode: 0o700 })
    return { NODE_COMPILE_CACHE: directory }
  } catch {
    // The control process will say what is wrong with the directory.
    return {}
  }
}

/** A program that runs until it is stopped. */
interface Program {
  /** Settles with an exit code when the program has ended by itself; calls back once it serves. */
  run(onStarted: () => void): Promise<number>
  /** Ends it in good order; `run` settles. */
  stop(options: { readonly leave: boolean }): Promise<void>
}

function packageVersion(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { readonly version: string }).version
}

function fail(line: string, code: number): never {
  process.stderr.write(`mesh-agent: ${line}\n`)
  process.exit(code)
}

/** One line for a failure of the world; for a bug, where it is. */
function explain(error: unknown): string {
  if (!(error instanceof MeshError)) return (error as Error).stack ?? messageOf(error)
  return error.hint ? `${error.message} (${error.hint})` : error.message
}

function readConfig(path: string, required: boolean): AgentConfig {
  let file: { path: string; bytes: Uint8Array } | null = null
  try {
    file = { path, bytes: readFileSync(path) }
  } catch (error) {
    if (required || (error as NodeJS.ErrnoException).code !== 'ENOENT') {
      fail(`cannot read the config ${path}: ${messageOf(error)}`, exitCodes.config)
    }
  }
  const reading = readAgentConfig({ file, environment: process.env }, machineFacts())
  if (reading.ok) return reading.config
  fail(reading.problems.map(renderProblem).join('\nmesh-agent: '), exitCodes.config)
}

/** What the command line asks for. */
interface Wishes {
  readonly role: (typeof roles)[number]
  /** Null where the usual place was not changed; then the file may be missing. */
  readonly configPath: string | null
  readonly generation: number
  readonly index: number
  readonly supervised: boolean
}

function readArguments(): Wishes {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        config: { type: 'string' },
        worker: { type: 'string', default: '1-0' },
        supervised: { type: 'boolean', default: false },
      },
    })
    const role = roles.find((one) => one === positionals[0])
    if (role === undefined || positionals.length > 1) throw new Error('one role must be named')
    return {
      role,
      configPath: values.config ?? null,
      ...workerNumbers(values.worker),
      supervised: values.supervised,
    }
  } catch (error) {
    return fail(`${messageOf(error)}\n${usage}`, exitCodes.usage)
  }
}

/** One word, as systemd hands the name of a unit's instance to its command line. */
function workerNumbers(text: string): Pick<Wishes, 'generation' | 'index'> {
  const [, generation, index] = /^([0-9]{1,6})-([0-9]{1,3})$/.exec(text) ?? []
  if (generation === undefined || index === undefined) {
    throw new Error(`--worker ${JSON.stringify(text)} must read <generation>-<index>, such as 1-0`)
  }
  return { generation: Number(generation), index: Number(index) }
}

/** Each role loads only its own code: a worker has no use for the control process's, nor it for ours. */
async function makeProgram(wishes: Wishes): Promise<Program> {
  const { role, generation, index } = wishes
  const configPath = wishes.configPath ?? defaultConfig
  const config = readConfig(configPath, wishes.configPath !== null)
  const logger = createLogger({
    name: role === 'proxy' ? 'mesh-proxy' : 'mesh-agent',
    level: config.log.level,
  })
  const parts = { clock: systemClock, random: systemRandom, logger, pid: process.pid }
  switch (role) {
    case 'control': {
      const { App } = await import('./app.ts')
      const user = process.getuid?.() ?? 0
      return new App({ ...parts, user, version: packageVersion() }, config)
    }
    case 'proxy': {
      const { ProxyWorker } = await import('./worker.ts')
      const who = { worker: `${generation}-${index}` }
      const access = createLogger({ name: 'mesh-proxy', sync: false }).child(who)
      const { drainMs, paths } = config
      return new ProxyWorker(
        { ...parts, logger: logger.child(who), access },
        { generation, index, runDirectory: paths.run, drainMs },
      )
    }
    case 'guard': {
      const { CaptureGuard } = await import('./interception/guard.ts')
      const { kernelCommands } = await import('./interception/commands.ts')
      const { capture, paths } = config
      return new CaptureGuard(
        { ...parts, commands: kernelCommands() },
        {
          owner: paths.run,
          firstPort: capture.firstPort,
          agentUser: process.getuid?.() ?? 0,
        },
      )
    }
    case 'supervise': {
      const { Supervisor } = await import('./workers/supervisor.ts')
      const configWords = wishes.configPath === null ? [] : ['--config', configPath]
      const words = [...configWords, '--supervised']
      const control = {
        name: 'control',
        command: process.execPath,
        args: [import.meta.filename, 'control', ...words],
        stopSignal: 'SIGINT' as const,
      }
      const proxies = Array.from({ length: config.workers }, (_, n) => ({
        name: `proxy ${n}`,
        command: process.execPath,
        args: [...proxyFlags, import.meta.filename, 'proxy', ...words, '--worker', `1-${n}`],
        stopSignal: 'SIGTERM' as const,
      }))
      const guard = {
        name: 'guard',
        command: process.execPath,
        args: [import.meta.filename, 'guard', ...words],
        stopSignal: 'SIGTERM' as const,
      }
      const isGuarded = config.capture.wish !== 'off' && process.getuid?.() === 0
      return new Supervisor(parts, {
        environment: { ...process.env, ...compileCache(config.paths.state) },
        stages: [[control], proxies, ...(isGuarded ? [[guard]] : [])],
        finalCodes: [exitCodes.config, exitCodes.usage, exitCodes.refused, exitCodes.unavailable],
        killMs: config.drainMs + 10_000,
      })
    }
  }
}

const wishes = readArguments()
const program = await makeProgram(wishes)
// Kept now, because a program that is killed keeps nothing.
flushCompileCache()
const serviceManager = await findServiceManager(
  { clock: systemClock, warn: (problem) => process.stderr.write(`mesh-agent: ${problem}\n`) },
  { environment: process.env, pid: process.pid },
)
const stop = (leave: boolean): void => {
  serviceManager.stopping()
  program.stop({ leave }).catch((error: unknown) => fail(explain(error), exitCodes.of(error)))
}
// SIGTERM comes before a restart and leaves what is published to the lease; SIGINT says goodbye.
process.on('SIGTERM', () => stop(false))
process.on('SIGINT', () => stop(true))
if (wishes.supervised) {
  // The supervisor holds the other end: when it is gone, however it went, so is this program.
  process.stdin
    .on('end', () => stop(true))
    .on('error', () => {})
    .resume()
}
// A log that nobody reads any more ends no agent.
process.stdout.on('error', () => {})
// The mesh's timers keep no process alive, and between two tries there may be nothing else.
setInterval(() => {}, 2 ** 30)
try {
  process.exitCode = await program.run(() => serviceManager.ready())
} catch (error) {
  fail(explain(error), exitCodes.of(error))
}
process.exit()
