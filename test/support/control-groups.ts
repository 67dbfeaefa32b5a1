/**
 * Owns control groups for tests, as systemd makes them for units: a slice of the test's own, and in it
 * groups named like units. Root only; gone with the test.
 */

import { accessSync, constants, existsSync, mkdirSync, rmdirSync } from 'node:fs'
import { join } from 'node:path'
import { until } from './until.ts'

/** The part of a test that control groups use. */
export interface GroupTest {
  teardown(run: () => Promise<void>): unknown
}

const mounts = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'] as const

/** Where version 2 is mounted and may be written to; null: nowhere. */
export function cgroupDirectory(): string | null {
  const found = mounts.find((one) => existsSync(join(one, 'cgroup.controllers')))
  try {
    if (found === undefined) return null
    accessSync(join(found, 'cgroup.procs'), constants.W_OK)
    return found
  } catch {
    return null
  }
}

/** Groups of units, in a slice of their own. */
export class UnitGroups {
  readonly #slice: string
  readonly #made = new Set<string>()

  constructor(t: GroupTest) {
    this.#slice = join(cgroupDirectory() ?? '', `hostmesh-test-${process.pid}.slice`)
    mkdirSync(this.#slice)
    t.teardown(async () => {
      for (const unit of this.#made) await this.end(unit)
      rmdirSync(this.#slice)
    })
  }

  /** Makes the group of a unit, as at its start. */
  start(unit: string): void {
    mkdirSync(join(this.#slice, unit))
    this.#made.add(unit)
  }

  /** Removes the group of a unit once its last process has ended. */
  async end(unit: string): Promise<void> {
    const remove = (): boolean => {
      rmdirSync(join(this.#slice, unit))
      return true
    }
    await until(`${unit} has ended`, () => attempt(remove))
    this.#made.delete(unit)
  }

  /** The command that runs as a process of a unit. */
  command(unit: string, ...command: readonly string[]): [string, ...string[]] {
    const enter = 'echo $$ > "$0" && exec "$@"'
    return ['sh', '-c', enter, join(this.#slice, unit, 'cgroup.procs'), ...command]
  }
}

function attempt(remove: () => boolean): boolean {
  try {
    return remove()
  } catch {
    return false
  }
}
