/**
 * Owns whether this machine can carry an agent or a controller at all: kernel, nft, disk, the package
 * itself. It looks and changes nothing; `preflight` asks it before `init` and `join` begin.
 */

import { spawnSync } from 'node:child_process'
import { existsSync, statfsSync } from 'node:fs'
import { release } from 'node:os'
import { dirname } from 'node:path'

/** What is looked at, so that tests can say otherwise. */
export interface MachineFacts {
  /** As `uname -r` says. */
  readonly kernel: string
  /** Why nft does not work here; empty where it does. */
  readonly nftProblem: string
  /** Bytes free for state. */
  readonly bytesFree: number
  /** Users of the mesh that are missing. */
  readonly missingUsers: readonly string[]
  /** As dpkg has it, `installed` where all is well; empty where dpkg does not know the package. */
  readonly packageStatus: string
}

/** Debian 11's; older ones were never tried. */
const oldestKernel = [5, 10] as const
const leastBytes = 64 * 1024 * 1024
const stateDirectory = '/var/lib/mesh'

/** What is wrong, a line each; `captures` says whether nft is needed. */
export function machineProblems(facts: MachineFacts, captures: boolean): readonly string[] {
  const { kernel, nftProblem, bytesFree, missingUsers, packageStatus } = facts
  const [major = 0, minor = 0] = kernel.split('.').map((part) => Number.parseInt(part, 10))
  const [oldMajor, oldMinor] = oldestKernel
  const isOld = major < oldMajor || (major === oldMajor && minor < oldMinor)
  const half = packageStatus !== '' && packageStatus !== 'installed'
  return [
    ...(isOld ? [`the kernel is ${kernel}; ${oldestKernel.join('.')} or later is needed`] : []),
    ...(captures && nftProblem !== ''
      ? [
          `nft does not work here (${nftProblem}): install nftables, or write "capture": "off" into /etc/mesh/agent.json first`,
        ]
      : []),
    ...(bytesFree < leastBytes
      ? [
          `only ${Math.floor(bytesFree / 2 ** 20)} MiB are free at ${stateDirectory}: make room first`,
        ]
      : []),
    ...(half ? [`the package is ${packageStatus}: run dpkg --configure --pending first`] : []),
    ...(!half && missingUsers.length > 0
      ? [`no user ${missingUsers.join(', ')}: install the package again, it makes them`]
      : []),
  ]
}

/** This machine. */
export function machineFacts(): MachineFacts {
  const { bavail, bsize } = statfsSync(nearest(stateDirectory))
  const status = ask('dpkg-query', ['--show', '--showformat=${db:Status-Status}', 'hostmesh'])
  return {
    kernel: release(),
    nftProblem: ask('nft', ['list', 'tables']).problem,
    bytesFree: bavail * bsize,
    missingUsers: ['mesh-agent', 'mesh-controller'].filter(
      (user) => ask('getent', ['passwd', user]).problem !== '',
    ),
    packageStatus: status.problem === '' ? status.said : '',
  }
}

function ask(program: string, words: readonly string[]): { said: string; problem: string } {
  const { status, stdout, stderr, error } = spawnSync(program, words, { encoding: 'utf8' })
  if (error !== undefined) return { said: '', problem: `${program} was not found` }
  const problem = status === 0 ? '' : (stderr.split('\n')[0] ?? '') || `exit code ${status}`
  return { said: stdout.trim(), problem }
}

/** The directory, or the nearest one above it that is there. */
function nearest(directory: string): string {
  return existsSync(directory) ? directory : nearest(dirname(directory))
}
