/**
 * Owns the agent's command line: arguments, environment, signals and exit codes, and is the only
 * agent file that touches `process`. Three programs start here: `control` (the control process),
 * `proxy` (a worker) and `supervise` (both, where there is no systemd).
 */

import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import { createLogger, type Logger } from '#shared/logging/logger.ts'
import { renderProblem } from '#shared/schema/problem.ts'
import { App } from './app.ts'
import { machineFacts, readAgentConfig, type AgentConfig } from './config.ts'
import { exitCodes } from './exit-codes.ts'
import { ProxyWorker } from './worker.ts'
import { Supervisor } from './workers/supervisor.ts'

const usage =
  'usage: main.ts control|proxy|supervise [--config <file>] [--generation n] [--index n]'
const defaultConfig = '/etc/mesh/agent.json'

/** A program that runs until it is stopped. */
interface Program {
  /** Settles with an exit code when the program has ended by itself. */
  run(): Promise<number>
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

function makeProgram(
  role: string | undefined,
  config: AgentConfig,
  configPath: string,
  place: { readonly generation: number; readonly index: number },
): Program {
  const logger = createLogger({
    name: role === 'proxy' ? 'mesh-proxy' : 'mesh-agent',
    level: config.log.level,
  })
  const platform = { clock: systemClock, random: systemRandom, logger }
  switch (role) {
    case 'control':
      return new App({ ...platform, pid: process.pid, version: packageVersion() }, config)
    case 'proxy':
      return new ProxyWorker(
        {
          ...platform,
          access: createLogger({ name: 'mesh-proxy', sync: false }),
          pid: process.pid,
        },
        { ...place, runDirectory: config.paths.run, drainMs: config.drainMs },
      )
    case 'supervise':
      return supervisor(config, configPath, logger)
    case undefined:
    default:
      return fail(usage, exitCodes.usage)
  }
}

function supervisor(config: AgentConfig, configPath: string, logger: Logger): Program {
  const program = (name: string) => ({
    name,
    command: process.execPath,
    args: [import.meta.filename, name, '--config', configPath, '--supervised'],
    stopSignal: name === 'control' ? ('SIGINT' as const) : ('SIGTERM' as const),
  })
  return new Supervisor(
    { clock: systemClock, random: systemRandom, logger },
    {
      programs: [program('control'), program('proxy')],
      finalCodes: [exitCodes.config, exitCodes.usage, exitCodes.refused, exitCodes.unavailable],
      killMs: config.drainMs + 10_000,
    },
  )
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    config: { type: 'string' },
    generation: { type: 'string', default: '1' },
    index: { type: 'string', default: '0' },
    supervised: { type: 'boolean', default: false },
  },
})
const configPath = values.config ?? defaultConfig
const program = makeProgram(
  positionals[0],
  readConfig(configPath, values.config !== undefined),
  configPath,
  { generation: Number(values.generation), index: Number(values.index) },
)
// SIGTERM comes before a restart and leaves what is published to the lease; SIGINT says goodbye.
process.on('SIGTERM', () => void program.stop({ leave: false }))
process.on('SIGINT', () => void program.stop({ leave: true }))
if (values.supervised) {
  // The supervisor holds the other end: when it is gone, however it went, so is this program.
  process.stdin
    .on('end', () => void program.stop({ leave: true }))
    .on('error', () => {})
    .resume()
}
// A log that nobody reads any more ends no agent.
process.stdout.on('error', () => {})
try {
  process.exitCode = await program.run()
} catch (error) {
  const hint = error instanceof MeshError && error.hint !== undefined ? ` (${error.hint})` : ''
  fail(`${messageOf(error)}${hint}`, exitCodes.of(error))
}
process.exit()
