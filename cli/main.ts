/** Entry of `meshctl`: argv, streams and exit codes; the only user of `process` in the tool. */

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

/** The user's number where the user database does not know it, as in containers. */
function userName(): string {
  try {
    return userInfo().username
  } catch {
    return String(process.geteuid?.() ?? '')
  }
}

try {
  await runProgram(process.argv, {
    streams,
    user: userName(),
    isRoot: process.getuid?.() === 0,
    killGroup,
    exit: (code) => void (process.exitCode = code),
  })
} catch (error) {
  if (!(error instanceof MeshError)) throw error
  const { message, hint = '' } = error
  streams.err(`meshctl: ${clean(message)}\n`)
  if (hint !== '') streams.err(`         ${clean(hint)}\n`)
  process.exitCode = exitCodes.unreachable
}
