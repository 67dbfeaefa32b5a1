/** Entry of `meshctl`: argv, streams and exit codes; the only user of `process` in the tool. */

import { existsSync, readFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import { runProgram } from './commands/program.ts'
import { exitCodes } from './exit-codes.ts'
import { clean } from './output/table.ts'

const streams = {
  out: (text: string) => void process.stdout.write(text),
  err: (text: string) => void process.stderr.write(text),
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // It has ended by itself.
  }
}

/** A signal that ends this process has `run` called first. Answers how to take that back. */
function beforeSignal(run: () => void): () => void {
  const signals = ['SIGINT', 'SIGTERM'] as const
  const takeBack = (): void => {
    for (const signal of signals) process.off(signal, end)
  }
  const end = (signal: NodeJS.Signals): void => {
    takeBack()
    run()
    // As if nobody had listened: whoever waits for this process sees the signal.
    process.kill(process.pid, signal)
  }
  for (const signal of signals) process.on(signal, end)
  return takeBack
}

/** The user's number where the user database does not know it, as in containers. */
function userName(): string {
  try {
    return userInfo().username
  } catch {
    return String(process.geteuid?.() ?? '')
  }
}

function packageVersion(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { readonly version: string }).version
}

/** Beside the tool in a checkout; where its package puts them elsewhere. */
const isCheckout = existsSync(new URL('../docs', import.meta.url))

try {
  await runProgram(process.argv, {
    streams,
    version: packageVersion(),
    documents: isCheckout ? 'docs' : '/usr/share/doc/hostmesh',
    user: userName(),
    isRoot: process.getuid?.() === 0,
    killGroup,
    beforeSignal,
    exit: (code) => void (process.exitCode = code),
  })
} catch (error) {
  if (!(error instanceof MeshError)) throw error
  const { message, hint = '' } = error
  streams.err(`meshctl: ${clean(message)}\n`)
  if (hint !== '') streams.err(`         ${clean(hint)}\n`)
  process.exitCode = exitCodes.unreachable
}
