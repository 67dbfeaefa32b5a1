/**
 * Owns the question whether this machine has what a test needs. A test that cannot run is skipped
 * with the reason, never silently.
 */

import { spawnSync } from 'node:child_process'
import { cgroupDirectory } from './control-groups.ts'
import { findProgram } from '#cli/find-program.ts'
import { postgresPrograms } from './postgres-program.ts'

/** What a test may need of the machine: a right, a kernel feature, or a program. */
export type Need =
  | 'root'
  | 'netns'
  | 'nft'
  | 'etcd'
  | 'etcdctl'
  | 'nginx'
  | 'python3'
  | 'ansible-playbook'
  | 'ansible-lint'
  | 'dpkg-deb'
  | 'fish'
  | 'groff'
  | 'zsh'
  | 'redis-server'
  | 'redis-cli'
  | 'psql'
  /** Debian's server. */
  | 'postgres'
  | 'curl'
  | 'wrk'
  | 'ab'
  /** For Debian's own Python. */
  | 'python3-requests'
  | 'h2load'
  | 'nghttp'
  | 'nghttpd'
  | 'setpriv'
  | 'dig'
  | 'libsystemd'
  /** Control groups of version 2 that tests may make. */
  | 'cgroups'
  /** Whole machines, booted. */
  | 'machines'

/** The part of a test that `needs` uses. */
export interface Skippable {
  plan(count: 0, comment: string): void
}

/** Why this machine lacks something, or an empty string; fit for a test's `skip` option. */
export function lacks(...needs: readonly Need[]): string {
  for (const need of needs) {
    const reason = lack(need)
    if (reason !== '') return reason
  }
  return ''
}

/** True when the test may run; otherwise it has been skipped and must return. */
export function needs(t: Skippable, ...whats: readonly Need[]): boolean {
  const reason = lacks(...whats)
  if (reason !== '') t.plan(0, reason)
  return reason === ''
}

function lack(need: Need): string {
  switch (need) {
    case 'root':
      return process.getuid?.() === 0 ? '' : 'needs root'
    case 'netns':
      return lacks('root') || lackOfNamespaces()
    case 'nft':
      return lacks('root') || lackOfProgram('nft')
    case 'python3-requests':
      return lackOfProgram('python3') || lackOfRequests()
    case 'etcd':
    case 'etcdctl':
    case 'nginx':
    case 'python3':
    case 'ansible-playbook':
    case 'ansible-lint':
    case 'dpkg-deb':
    case 'fish':
    case 'groff':
    case 'zsh':
    case 'redis-server':
    case 'redis-cli':
    case 'psql':
    case 'curl':
    case 'wrk':
    case 'ab':
    case 'h2load':
    case 'nghttp':
    case 'nghttpd':
    case 'setpriv':
    case 'dig':
      return lackOfProgram(need)
    case 'machines':
      return lacks('netns') || lackOfProgram('debootstrap') || lackOfProgram('systemd-nspawn')
    case 'cgroups':
      return lacks('netns') || (cgroupDirectory() === null ? 'needs control groups (v2)' : '')
    case 'postgres':
      return postgresPrograms() === null ? 'needs PostgreSQL’s server' : ''
    case 'libsystemd':
      return lackOfLibrary('libsystemd.so.0')
  }
}

function lackOfLibrary(name: string): string {
  const cache = spawnSync('/sbin/ldconfig', ['-p'], { encoding: 'utf8' })
  return cache.stdout?.includes(name) ? '' : `needs the library ${name}`
}

function lackOfProgram(name: string): string {
  return findProgram(name) === null ? `needs the program ${name}` : ''
}

function lackOfRequests(): string {
  const probe = spawnSync('python3', ['-c', 'import requests'])
  return probe.status === 0 ? '' : 'needs Python’s requests'
}

function lackOfNamespaces(): string {
  const missing = lackOfProgram('ip') || lackOfProgram('nsenter') || lackOfProgram('unshare')
  if (missing !== '') return missing
  const probe = spawnSync('unshare', ['--net', 'true'])
  return probe.status === 0 ? '' : 'needs the right to make network namespaces'
}
