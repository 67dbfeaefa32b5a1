/** Owns the CLI's way to systemd: units switched on, and told apart from those that are missing. */

import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'

/** The service manager, as verbs need it. */
export interface ServiceUnits {
  /** Whether systemd runs this host. */
  readonly running: boolean
  has(unit: string): boolean
  /** Also of a pattern: whether one of its units is. */
  isActive(unit: string): boolean
  /** Whether its program has ended for good, or ends again each time it is started over. */
  isLost(unit: string): boolean
  /** Units whose stop stops that one as well; null where systemd does not tell. */
  stoppedWith(unit: string): readonly string[] | null
  /** What a unit's programs said last; may be empty. */
  lastWords(unit: string): string
  /** Starts units until the next boot. @throws MeshError `unit-failed` */
  start(units: readonly string[]): void
  /** Starts a unit over. @throws MeshError `unit-failed` */
  restart(unit: string): void
  /** Has systemd read its files again. */
  reload(): void
  /** Ends units and forgets that they failed. */
  stop(units: readonly string[]): void
  /** Starts units now and at every boot. @throws MeshError `unit-failed` */
  enable(units: readonly string[]): void
}

/** This host's systemd. */
export const systemdUnits: ServiceUnits = {
  get running() {
    return existsSync('/run/systemd/system')
  },
  has: (unit) => systemctl(['cat', unit]).status === 0,
  isActive: (unit) => systemctl(['is-active', '--quiet', unit]).status === 0,
  isLost(unit) {
    const { stdout } = systemctl(['show', '--property=ActiveState,NRestarts', unit])
    const restarts = Number(/^NRestarts=(\d+)$/m.exec(stdout)?.[1])
    return /^ActiveState=failed$/m.test(stdout) || restarts >= hopelessRestarts
  },
  stoppedWith(unit) {
    const asked = systemctl(['show', '--property=StopPropagatedFrom', '--value', unit])
    return asked.status === 0 ? asked.stdout.split(/\s+/).filter((name) => name !== '') : null
  },
  lastWords(unit) {
    const words = ['--unit', unit, '--output=cat', '--lines=200', '--no-pager', '--quiet']
    const { stdout } = spawnSync('journalctl', words, { encoding: 'utf8' })
    // Of a program that fell over: its last error, not where in the code that was.
    const lines = (stdout ?? '').trim().split('\n')
    return lines.findLast((line) => /^(?:mesh-agent: |\w*Error\b)/.test(line)) ?? lines.at(-1) ?? ''
  },
  enable: (units) => mustStart(['enable', '--now', '--quiet'], units),
  start: (units) => mustStart(['start', '--quiet'], units),
  restart: (unit) => mustStart(['restart', '--quiet'], [unit]),
  reload: () => void systemctl(['daemon-reload']),
  stop(units) {
    systemctl(['stop', ...units])
    systemctl(['reset-failed', ...units])
  },
}

/** A program that was started over so often, and not by anybody, starts over because it cannot run. */
const hopelessRestarts = 3

function mustStart(verb: readonly string[], units: readonly string[]): void {
  const { status, stderr } = systemctl([...verb, ...units])
  if (status === 0) return
  throw new MeshError(`cannot start ${units.join(', ')}: ${stderr.trim()}`, {
    code: 'unit-failed',
    hint: `journalctl -n 20 ${units.map((unit) => `-u ${unit}`).join(' ')} tells why`,
  })
}

function systemctl(words: readonly string[]): {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
} {
  const { status, stdout, stderr, error } = spawnSync('systemctl', words, { encoding: 'utf8' })
  return { status: status ?? 1, stdout: stdout ?? '', stderr: error?.message ?? stderr }
}
