/**
 * Owns the controller's command line: arguments, environment, signals and exit codes, and is the
 * only controller file that touches `process`. Whatever keeps it from starting is one line on
 * standard error and an exit code that says what kind of thing it is.
 */

import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { parseArgs } from 'node:util'
import { systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import { findServiceManager } from '#shared/lifecycle/service-manager.ts'
import { createLogger } from '#shared/logging/logger.ts'
import { renderProblem } from '#shared/schema/problem.ts'
import { Controller } from './app.ts'
import { commands, isCommand, runCommand } from './commands.ts'
import type { ControllerConfig } from './config.ts'
import { readControllerConfig } from './config.ts'
import { exitCodes } from './exit-codes.ts'

const usage =
  'usage: main.ts [--config <file>] [--store embedded|https://host:port[,...]] [--help] [--version]; while it is stopped, with --config: ' +
  Object.entries(commands)
    .map(([name, needs]) => `main.ts ${name} ${needs}`.trim())
    .join(', ')
const defaultConfig = '/etc/mesh/controller.json'

function fail(line: string, code: number): never {
  process.stderr.write(`mesh-controller: ${line}\n`)
  process.exit(code)
}

function tell(text: string): never {
  process.stdout.write(`${text}\n`)
  process.exit(exitCodes.ok)
}

function packageVersion(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { readonly version: string }).version
}

interface Arguments {
  readonly config?: string
  readonly store?: string
  /** A command to carry out instead of serving, with what it is about. */
  readonly command: readonly string[]
}

function readArguments(): Arguments {
  try {
    const options = {
      config: { type: 'string' },
      store: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
      version: { type: 'boolean' },
    } as const
    const { values, positionals } = parseArgs({ options, allowPositionals: true })
    if (values.help === true) return tell(usage)
    if (values.version === true) return tell(`mesh-controller ${packageVersion()}`)
    const known = positionals.length === 0 || isCommand(positionals)
    if (!known) throw new Error(`unknown command ${positionals.join(' ')}`)
    return { ...values, command: positionals }
  } catch (error) {
    return fail(`${messageOf(error)} (${usage})`, exitCodes.usage)
  }
}

function readConfig(flags: Arguments): ControllerConfig {
  const path = flags.config ?? defaultConfig
  let file: { path: string; bytes: Uint8Array } | null = null
  try {
    file = { path, bytes: readFileSync(path) }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (flags.config !== undefined || code !== 'ENOENT') {
      // What is no file has to be mended; anything else may pass.
      const isNoFile = code === 'ENOENT' || code === 'EISDIR'
      const problem = `cannot read the config ${path}: ${messageOf(error)}`
      fail(problem, isNoFile ? exitCodes.config : exitCodes.failed)
    }
  }
  // The flag speaks through the variable of its key, so that it goes through the same checks.
  const environment =
    flags.store === undefined ? process.env : { ...process.env, MESH_CONTROLLER_STORE: flags.store }
  const reading = readControllerConfig({ file, environment }, { hostname: hostname() })
  return reading.ok
    ? reading.config
    : fail(reading.problems.map(renderProblem).join('\nmesh-controller: '), exitCodes.config)
}

function ended(error: unknown): never {
  const hint = error instanceof MeshError ? (error.hint ?? '') : ''
  const line = hint === '' ? messageOf(error) : `${messageOf(error)} (${hint})`
  return fail(line, exitCodes.of(error))
}

const flags = readArguments()
const config = readConfig(flags)
if (flags.command.length > 0) {
  const parts = {
    clock: systemClock,
    random: systemRandom,
    say: (line: string) => void process.stdout.write(`${line}\n`),
  }
  await runCommand(parts, config, flags.command).catch(ended)
  process.exit()
}
const logger = createLogger({ name: 'mesh-controller', level: config.log.level })
const controller = new Controller({ clock: systemClock, random: systemRandom, logger }, config)

// A log that nobody reads any more ends no controller.
process.stdout.on('error', () => {})
const stopped = new Promise<string>((resolve) => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => resolve(signal))
})
try {
  await controller.start()
} catch (error) {
  ended(error)
}
const serviceManager = await findServiceManager(
  { clock: systemClock, warn: (problem) => logger.warn({ problem }, 'service manager') },
  { environment: process.env, pid: process.pid },
)
serviceManager.ready()
const signal = await stopped
serviceManager.stopping()
logger.info({ signal }, 'stopping')
await controller.stop()
process.exit()
