/**
 * Owns the one way this project puts Debian packages on a machine: as root, only what is missing,
 * never asking questions, never starting the services it installs. Plain JavaScript, because set-up
 * runs it before the pinned runtime exists.
 */

import { spawnSync } from 'node:child_process'
import { existsSync, rmSync, writeFileSync } from 'node:fs'

const policy = '/usr/sbin/policy-rc.d'
const environment = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' }

/** Whether this process may install Debian packages. */
export function canInstall() {
  return process.getuid?.() === 0 && existsSync('/usr/bin/apt-get')
}

/** Which of `packages` are not installed; all of them where there is no dpkg. */
export function missingPackages(packages) {
  return packages.filter((name) => {
    const query = spawnSync('dpkg-query', ['-W', '-f', '${Status}', name], { encoding: 'utf8' })
    return query.status !== 0 || !query.stdout.includes('ok installed')
  })
}

/**
 * Installs what is missing of `packages`; answers what is wrong, or an empty string. Services that
 * come with a package are neither started nor enabled: the project runs its own copies.
 */
export function installPackages(packages, say) {
  const missing = missingPackages(packages)
  if (missing.length === 0) return ''
  const list = missing.join(' ')
  if (!canInstall()) return `missing Debian packages; as root: apt-get install ${list}`
  say(`installing Debian packages: ${list}`)
  const guard = !existsSync(policy)
  if (guard) writeFileSync(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 })
  try {
    const update = aptGet(['update'])
    const install = aptGet(['install', '-y', '--no-install-recommends', ...missing])
    if (install !== '') return `cannot install ${list}: ${update || install}`
  } finally {
    if (guard) rmSync(policy, { force: true })
  }
  disableServices(missing)
  return ''
}

function aptGet(words) {
  const result = spawnSync('apt-get', ['-q', '-o', 'DPkg::Lock::Timeout=120', ...words], {
    encoding: 'utf8',
    env: environment,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  if (result.status === 0) return ''
  const said = `${result.stderr ?? ''}`.split('\n').find((line) => /^(E|Err)[: ]/.test(line))
  return said ?? `apt-get ${words[0]} ended with ${result.status ?? result.signal}`
}

function disableServices(installed) {
  if (!existsSync('/run/systemd/system')) return
  const units = { 'etcd-server': 'etcd', 'nginx-light': 'nginx', 'redis-server': 'redis-server' }
  const names = installed.flatMap((name) => units[name] ?? [])
  if (names.length > 0) spawnSync('systemctl', ['--quiet', 'disable', ...names])
}
