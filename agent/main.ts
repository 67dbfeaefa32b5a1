/**
 * Owns the agent's command line: arguments, environment, signals and exit codes, and is the only
 * agent file that touches `process`. Four programs start here: `control` (the control process),
 * `proxy` (a worker), `guard` (what stays when both are gone) and `supervise` (all of them, where
 * there is no systemd).
 */

import { mkdirSync, readFileSync } from 'node:fs'
import { flushCompileCache, getCompileCacheDir } from 'node:module'
import { parseArgs } from 'node:util'
import { systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import { findServiceManager } from '#shared/lifecycle/service-manager.ts'
import { createLogger } from '#shared/logging/logger.ts'
import { renderProblem } from '#shared/schema/problem.ts'
import type { ConfigReading } from '#shared/schema/config.ts'
import type { AgentConfig } from './config.ts'
import { exitCodes } from './exit-codes.ts'
import { flagsOf, roles, type Role, type WorkerSlice } from './roles.ts'
import type { Program as SupervisedProgram } from './workers/supervisor.ts'

const usage =
  'usage: main.ts control|proxy|guard|supervise [--config <file>] [--worker <generation>-<index>]\n' +
  '       main.ts --help | --version'
const defaultConfig = '/etc/mesh/agent.json'
/** The rule of a config that cannot be read just now. */
const unreadable = 'unreadable'

/**
 * Where the agent's programs keep their compiled code: with it they need no TypeScript stripper, so
 * a worker starts in a quarter of the time and takes 25 MiB less. Only the agent may write there.
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
  /** Reads its settings again, where it can. */
  reload?(): void
}

function packageVersion(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { readonly version: string }).version
}

function fail(line: string, code: number): never {
  process.stderr.write(`mesh-agent: ${line}\n`)
  process.exit(code)
}

function tell(text: string): never {
  process.stdout.write(`${text}\n`)
  process.exit(exitCodes.ok)
}

/** One line for a failure of the world; for a bug, where it is. */
function explain(error: unknown): string {
  if (!(error instanceof MeshError)) return (error as Error).stack ?? messageOf(error)
  return error.hint ? `${error.message} (${error.hint})` : error.message
}

/** Tells systemd of a reload; answers how to tell that it is over. */
function beginReload(): () => void {
  serviceManager.reloading(process.hrtime.bigint() / 1000n)
  return () => serviceManager.ready()
}

/** What reads the config, now and again. */
async function configReader({ configPath }: Wishes): Promise<() => ConfigReading<AgentConfig>> {
  const { readAgentConfig } = await import('./config-reader.ts')
  const { machineFacts } = await import('./machine-facts.ts')
  const path = configPath ?? defaultConfig
  return () => {
    let file: { path: string; bytes: Uint8Array } | null = null
    try {
      file = { path, bytes: readFileSync(path) }
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (configPath !== null || code !== 'ENOENT') {
        const message = `cannot read the config: ${messageOf(error)}`
        const where = { file: path, line: 0, column: 0, path: '' }
        // What is no file has to be mended; anything else may pass.
        const rule = code === 'ENOENT' || code === 'EISDIR' ? 'no-file' : unreadable
        return { ok: false, problems: [{ ...where, rule, message, hint: '' }] }
      }
    }
    return readAgentConfig({ file, environment: process.env }, machineFacts())
  }
}

async function readConfig(wishes: Wishes): Promise<AgentConfig> {
  const reading = (await configReader(wishes))()
  if (reading.ok) return reading.config
  const mayPass = reading.problems.some(({ rule }) => rule === unreadable)
  const code = mayPass ? exitCodes.failed : exitCodes.config
  fail(reading.problems.map(renderProblem).join('\nmesh-agent: '), code)
}

/** What the command line asks for. */
interface Wishes {
  readonly role: Role
  /** Null where the usual place was not changed; then the file may be missing. */
  readonly configPath: string | null
  readonly worker: string
  readonly supervised: boolean
  /** How often this process has started, itself included; see `startOver`. */
  readonly starts: number
  /** What the start before, or the supervisor, has read for a worker. */
  readonly slice: WorkerSlice | null
}

function readArguments(): Wishes {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        config: { type: 'string' },
        worker: { type: 'string', default: '1-0' },
        supervised: { type: 'boolean', default: false },
        starts: { type: 'string', default: '1' },
        slice: { type: 'string' },
        help: { type: 'boolean', short: 'h' },
        version: { type: 'boolean' },
      },
    })
    if (values.help === true) return tell(usage)
    if (values.version === true) return tell(`mesh-agent ${packageVersion()}`)
    const role = roles.find((one) => one === positionals[0])
    if (role === undefined || positionals.length > 1) throw new Error('one role must be named')
    workerNumbers(values.worker)
    return {
      role,
      configPath: values.config ?? null,
      worker: values.worker,
      supervised: values.supervised,
      starts: Number(values.starts),
      slice: values.slice === undefined ? null : (JSON.parse(values.slice) as WorkerSlice),
    }
  } catch (error) {
    return fail(`${messageOf(error)}\n${usage}`, exitCodes.usage)
  }
}

/** One word, as systemd hands the name of a unit's instance to its command line. */
function workerNumbers(text: string): { readonly generation: number; readonly index: number } {
  const [, generation, index] = /^([0-9]{1,6})-([0-9]{1,3})$/.exec(text) ?? []
  if (generation === undefined || index === undefined) {
    throw new Error(`--worker ${JSON.stringify(text)} must read <generation>-<index>, such as 1-0`)
  }
  return { generation: Number(generation), index: Number(index) }
}

/** The command line of a program, behind Node's name. */
function wordsFor({ role, configPath, worker, supervised, starts, slice }: Wishes): string[] {
  return [
    ...flagsOf[role],
    // As it was called: behind a link there may be another version by now.
    process.argv[1] ?? import.meta.filename,
    role,
    ...(configPath === null ? [] : ['--config', configPath]),
    ...(role === 'proxy' ? ['--worker', worker] : []),
    ...(supervised ? ['--supervised'] : []),
    ...(slice === null ? [] : ['--slice', JSON.stringify(slice)]),
    '--starts',
    String(starts),
  ]
}

/**
 * Goes on as a fresh program under the same process id, with the flags of its role and without what
 * was only loaded to get here. Returns where the system does not let it; then this program goes on.
 * So does one that is profiled: its profile would be lost, and the profiler's next signal kills.
 */
function startOver(wishes: Wishes, more: Readonly<Record<string, string>> = {}): void {
  if (process.env['NODE_OPTIONS']?.includes('--cpu-prof') === true) return
  const ours = new Set(flagsOf[wishes.role])
  const others = process.execArgv.filter((flag) => !ours.has(flag))
  const words = wordsFor({ ...wishes, starts: wishes.starts + 1 })
  try {
    process.execve?.(process.execPath, [process.execPath, ...others, ...words], {
      ...process.env,
      ...more,
    })
  } catch {
    // A stricter system call filter than ours, perhaps; it costs memory, nothing else.
  }
}

/** The first start reads what the one that stays is told; a worker has no use for all the schemas. */
async function prepare(wishes: Wishes): Promise<void> {
  if (wishes.starts > 1) return
  const { role } = wishes
  if (role !== 'proxy' && role !== 'supervise') startOver(wishes)
  else {
    const config = await readConfig(wishes)
    if (role === 'proxy') startOver({ ...wishes, slice: sliceOf(config) })
    else startOver(wishes, compileCache(config.paths.state))
  }
}

/** Whether TypeScript had to be stripped and will not have to be the next time. */
function isWarm(): boolean {
  const { moduleLoadList = [] } = process as { readonly moduleLoadList?: readonly string[] }
  return (
    !moduleLoadList.some((name) => name.includes('amaro')) || getCompileCacheDir() === undefined
  )
}

function sliceOf({ paths, drainMs, log }: AgentConfig): WorkerSlice {
  return { runDirectory: paths.run, drainMs, logLevel: log.level }
}

/** A worker loads only its own code: what is not in its heap need not be marked, nor kept. */
async function makeWorker(wishes: Wishes): Promise<Program> {
  const { runDirectory, drainMs, logLevel } = wishes.slice ?? sliceOf(await readConfig(wishes))
  const { ProxyWorker } = await import('./worker.ts')
  const who = { worker: wishes.worker }
  const name = 'mesh-proxy'
  return new ProxyWorker(
    {
      clock: systemClock,
      random: systemRandom,
      logger: createLogger({ name, level: logLevel }).child(who),
      access: createLogger({ name, sync: false }).child(who),
      pid: process.pid,
    },
    { ...workerNumbers(wishes.worker), runDirectory, drainMs, version: packageVersion() },
  )
}

/** Each role loads only its own code. */
async function makeProgram(wishes: Wishes): Promise<Program> {
  const { role } = wishes
  if (role === 'proxy') return makeWorker(wishes)
  const config = await readConfig(wishes)
  const logger = createLogger({ name: 'mesh-agent', level: config.log.level })
  const parts = { clock: systemClock, random: systemRandom, logger, pid: process.pid }
  switch (role) {
    case 'control': {
      const { App } = await import('./app.ts')
      const user = process.getuid?.() ?? 0
      const reload = { read: await configReader(wishes), begin: beginReload }
      return new App({ ...parts, user, version: packageVersion(), reload }, config)
    }
    case 'guard': {
      const { CaptureGuard } = await import('./interception/guard.ts')
      const { kernelCommands } = await import('./interception/commands.ts')
      const { forgetMesh } = await import('./dns/forget-mesh.ts')
      const { capture, paths, systemDns } = config
      const read = await configReader(wishes)
      // What cannot be read does not say so.
      const isOff = (): boolean => {
        const now = read()
        return now.ok && now.config.capture.wish === 'off'
      }
      const isOurs = systemDns === 'resolv-conf' || systemDns === 'auto'
      return new CaptureGuard(
        { ...parts, commands: kernelCommands(), ...(isOurs ? { onGone: () => forgetMesh() } : {}) },
        {
          owner: paths.run,
          firstPort: capture.firstPort,
          isOff,
          agentUser: process.getuid?.() ?? 0,
        },
      )
    }
    case 'supervise': {
      const { refuseSecondAgent } = await import('./admin/second-agent.ts')
      await refuseSecondAgent(`${config.paths.run}/agent.sock`)
      const { Supervisor } = await import('./workers/supervisor.ts')
      const program = (name: string, child: Pick<Wishes, 'role'> & Partial<Wishes>) => ({
        name,
        command: process.execPath,
        args: wordsFor({ ...wishes, supervised: true, starts: 2, ...child }),
        stopSignal: child.role === 'control' ? ('SIGINT' as const) : ('SIGTERM' as const),
      })
      const proxies = (generation: number, more: Partial<Wishes>): SupervisedProgram[] =>
        Array.from({ length: config.workers }, (_, n) => {
          const worker = `${generation}-${n}`
          return program(`proxy ${worker}`, { role: 'proxy', worker, ...more })
        })
      const { mayChangeNetwork } = await import('./interception/network-right.ts')
      const isGuarded = config.capture.wish !== 'off' && mayChangeNetwork()
      const guards = isGuarded ? [[program('guard', { role: 'guard' })]] : []
      const workerStage = 1
      const supervisor = new Supervisor(parts, {
        environment: { ...process.env, ...compileCache(config.paths.state) },
        stages: [
          [program('control', { role: 'control' })],
          proxies(1, { slice: sliceOf(config) }),
          ...guards,
        ],
        finalCodes: [exitCodes.config, exitCodes.usage, exitCodes.refused, exitCodes.unavailable],
        doneCode: exitCodes.retired,
        killMs: config.drainMs + 10_000,
      })
      const { letConnectionsMigrate } = await import('./workers/connection-migration.ts')
      process.once('exit', letConnectionsMigrate())
      let newest = 1
      // Of another version perhaps: it reads the config itself.
      process.on('SIGUSR2', () => supervisor.add(workerStage, proxies(++newest, { starts: 1 })))
      return supervisor
    }
  }
}

const wishes = readArguments()
await prepare(wishes)
const program = await makeProgram(wishes).catch((error: unknown) =>
  fail(explain(error), exitCodes.of(error)),
)
// Kept now, because a program that is killed keeps nothing.
flushCompileCache()
if (wishes.starts === 2 && !isWarm()) startOver(wishes)
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
process.on('SIGHUP', () => program.reload?.())
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
