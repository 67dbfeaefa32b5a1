/** Owns the CLI's way to systemd: units switched on, and told apart from those that are missing. */

import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'

/** The service manager, as verbs need it. */
export interface ServiceUnits {
  /** Whether systemd runs this host. */
  readonly running: boolean
  has(unit: string): boolean
  isActive(unit: string): boolean
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
  enable(units) {
    const { status, stderr } = systemctl(['enable', '--now', '--quiet', ...units])
    if (status === 0) return
    throw new MeshError(`cannot start ${units.join(', ')}: ${stderr.trim()}`, {
      code: 'unit-failed',
      hint: `journalctl -n 20 ${units.map((unit) => `-u ${unit}`).join(' ')} tells why`,
    })
  },
}

function systemctl(words: readonly string[]): { readonly status: number; readonly stderr: string } {
  const { status, stderr, error } = spawnSync('systemctl', words, { encoding: 'utf8' })
  return { status: status ?? 1, stderr: error?.message ?? stderr }
}
