/**
 * Owns the running of `nft` and `ip` for interception: arguments without a shell, a deadline, and
 * failures named with what to do. It knows no rules.
 */

import { execFile, spawn } from 'node:child_process'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'

/** Runs the kernel's tools. */
export interface KernelCommands {
  /** Runs a transaction: all of it or nothing. @throws MeshError */
  nft(script: string): Promise<void>
  /** Asks the kernel whether it would take a transaction. @throws MeshError */
  check(script: string): Promise<void>
  /** Standard output of an `nft` query. @throws MeshError */
  ask(...words: readonly string[]): Promise<string>
  /** Standard output of `ip`. @throws MeshError */
  ip(...words: readonly string[]): Promise<string>
  /** Calls back with every line of `nft monitor` until stopped; `onEnd` when it ended by itself. */
  monitor(onLine: (line: string) => void, onEnd: () => void): { stop(): void }
}

/** Longest run of a command; five thousand elements take a tenth of a second. */
const patienceMs = 20_000
const maxOutputBytes = 64 * 2 ** 20
/** Services have no sbin in their PATH. */
const environment = {
  PATH: '/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin',
  LC_ALL: 'C',
}

/** The real ones. `enter` stands before each command, for tests that have a network of their own. */
export function kernelCommands(enter: readonly string[] = []): KernelCommands {
  const run = (program: Program, words: readonly string[], input = ''): Promise<string> =>
    execute([...enter, program, ...words], { program, words, input })
  return {
    nft: async (script) => void (await run('nft', ['-f', '-'], script)),
    check: async (script) => void (await run('nft', ['-c', '-f', '-'], script)),
    ask: (...words) => run('nft', words),
    ip: (...words) => run('ip', words),
    monitor: (onLine, onEnd) =>
      monitor([...enter, 'nft', '-n', 'monitor', 'destroy'], onLine, onEnd),
  }
}

type Program = 'nft' | 'ip'

function monitor(
  command: readonly string[],
  onLine: (line: string) => void,
  onEnd: () => void,
): { stop(): void } {
  const [program = '', ...words] = command
  const child = spawn(program, words, { env: environment, stdio: ['ignore', 'pipe', 'ignore'] })
  let rest = ''
  let over = false
  const end = (): void => {
    if (over) return
    over = true
    onEnd()
  }
  child.stdout.on('data', (chunk: Buffer) => {
    const lines = (rest + chunk.toString('latin1')).split('\n')
    rest = lines.pop()?.slice(-4096) ?? ''
    for (const line of lines) onLine(line)
  })
  child.on('error', end)
  child.on('exit', end)
  return {
    stop() {
      over = true
      child.kill()
    },
  }
}

interface Task {
  readonly program: Program
  readonly words: readonly string[]
  readonly input: string
}

function execute([first = '', ...rest]: readonly string[], task: Task): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { env: environment, timeout: patienceMs, maxBuffer: maxOutputBytes }
    const child = execFile(first, rest, options, (error, stdout, stderr) => {
      if (error === null) resolve(stdout)
      else reject(failure(task, error, stderr))
    })
    // A program that is not there takes no input; its absence is reported above.
    child.stdin?.on('error', () => {})
    child.stdin?.end(task.input)
  })
}

function failure(
  { program, words }: Task,
  cause: { readonly code?: string | number | null; readonly killed?: boolean },
  stderr: string,
): MeshError {
  if (cause.code === 'ENOENT') {
    const hint = `install ${program === 'nft' ? 'nftables' : 'iproute2'}, or set "capture": "off"`
    return new MeshError(`there is no program ${program} here`, {
      code: `${program}-missing`,
      hint,
      cause,
    })
  }
  const said = stderr.trim().split('\n')[0] ?? ''
  const command = `${program} ${words.join(' ')}`
  if (/not permitted|permission denied/i.test(stderr)) {
    return new MeshError(`${command} is not permitted: ${said}`, {
      code: 'capture-not-permitted',
      hint: 'run the agent as root or with CAP_NET_ADMIN, or set "capture": "off"',
      cause,
    })
  }
  const what = cause.killed === true ? `took longer than ${patienceMs} ms` : `failed: ${said}`
  return new MeshError(`${command} ${what}`, { code: `${program}-failed`, retry: true, cause })
}
