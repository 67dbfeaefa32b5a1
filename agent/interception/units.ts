/**
 * Owns how systemd units are found as the kernel knows them: by the control group of each, which the
 * kernel compares connections with, and by the user a unit runs as. Only slices are looked into, where
 * nobody but root makes groups. A unit that starts again has another group under the same path.
 */

import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import { userNumber } from './users.ts'

/** The control group of a unit that runs. */
export interface UnitGroup {
  /** Below `/sys/fs/cgroup`, as nft takes it. */
  readonly path: string
  /** How deep it lies in the hierarchy of groups, from 1. */
  readonly level: number
  /** The kernel's number of the group; another after a restart. */
  readonly id: number
}

/** The deepest group that our rules ask for: slices in slices are rarely more than three. */
export const deepestUnit = 5

const mount = '/sys/fs/cgroup'

/** The groups of the units named so that run now. Never rejects: what cannot be read is not there. */
export async function unitGroups(
  names: ReadonlySet<string>,
): Promise<ReadonlyMap<string, UnitGroup>> {
  const found = new Map<string, UnitGroup>()
  if (names.size > 0) await lookInto(hierarchy(), 1, names, found)
  return found
}

/** Whether a path still leads to the group it led to. */
export async function isGroup({ path, id }: Pick<UnitGroup, 'path' | 'id'>): Promise<boolean> {
  return (await stat(`${mount}/${path}`).catch(() => null))?.ino === id
}

/** The directory in which a group lies. */
export function directoryOf({ path }: Pick<UnitGroup, 'path'>): string {
  return `${mount}/${path.slice(0, path.lastIndexOf('/'))}`
}

/** Version 2 of control groups may be mounted beside version 1. */
function hierarchy(): string {
  return existsSync(`${mount}/cgroup.controllers`) ? '' : 'unified'
}

async function lookInto(
  below: string,
  level: number,
  names: ReadonlySet<string>,
  found: Map<string, UnitGroup>,
): Promise<void> {
  const entries = await readdir(`${mount}/${below}`, { withFileTypes: true }).catch(() => [])
  for (const entry of entries) {
    const { name } = entry
    if (!entry.isDirectory()) continue
    const path = below === '' ? name : `${below}/${name}`
    if (names.has(name) && !found.has(name)) {
      const id = (await stat(`${mount}/${path}`).catch(() => null))?.ino
      if (id !== undefined) found.set(name, { path, level, id })
    } else if (name.endsWith('.slice') && level < deepestUnit) {
      await lookInto(path, level + 1, names, found)
    }
  }
}

/** The number of the user a unit runs as, root's too; null with the reason where it cannot be known. */
export async function unitUser(
  unit: string,
): Promise<{ readonly user: number | null; readonly problem: string }> {
  const words = ['show', '--property=User', '--value', '--', unit]
  const asked = Promise.withResolvers<string>()
  execFile('systemctl', words, { timeout: 5000 }, (error, stdout) => {
    if (error === null) asked.resolve(stdout.trim())
    else asked.reject(error)
  })
  try {
    const name = await asked.promise
    const user = name === '' ? 0 : await userNumber(name)
    const problem = user === null ? `${unit} runs as ${name}, a user that is not known here` : ''
    return { user, problem }
  } catch (error) {
    const why = messageOf(error).trim().split('\n').at(-1) ?? ''
    return { user: null, problem: `systemd does not tell whom ${unit} runs as (${why})` }
  }
}
