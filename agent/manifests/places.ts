/**
 * Owns where manifests are looked for: the directory itself, which is the administrator's, and in it
 * one directory for each local user. A directory that others may write to, or that is not its user's,
 * is not read: what was in force of it stays. It opens no manifest.
 */

import type { Stats } from 'node:fs'
import { lstat, readdir } from 'node:fs/promises'
import { ownUser } from '#shared/lifecycle/own-user.ts'
import { isManifestName } from '#shared/model/manifest-name.ts'

/** A directory of manifests that can be read. */
export interface Place {
  readonly directory: string
  /** Whose manifests they are; null for the administrator's. */
  readonly user: string | null
  /** The users whose files count. */
  readonly owners: ReadonlySet<number>
  /** The names of the files, sorted. */
  readonly names: readonly string[]
  /** Changes when the directory is another one, or belongs or opens to others than when it was judged. */
  readonly stamp: string
}

/** What looking around answers. */
export interface Places {
  readonly places: readonly Place[]
  /** Whether a directory is there but what is in it cannot be known now. */
  readonly isBlind: (directory: string) => boolean
  /** What is wrong with the directories, in words; empty when nothing is. */
  readonly problem: string
}

/** More files than this are not looked at, the last ones by name: of all, and of one user. */
const most = { files: 20_000, filesOfUser: 1000, users: 1000 } as const

const root = 0

/** Looks around. Never rejects. `uidOf` answers the number of a local user, null for nobody. */
export async function lookAround(
  directory: string,
  uidOf: (user: string) => Promise<number | null>,
): Promise<Places> {
  const trusted = [root, ownUser()]
  const problems: string[] = []
  const blind = new Set<string>()
  try {
    const stats = await lstat(directory)
    const { uid, mode } = stats
    if (isOpenToAll(mode)) {
      return { places: [], isBlind: () => true, problem: 'anybody may write to it (chmod o-w)' }
    }
    const entries = await readdir(directory, { withFileTypes: true })
    const names = entries.map(({ name }) => name).filter(isManifestName)
    const own: Place = {
      directory,
      user: null,
      owners: new Set([...trusted, uid]),
      names: atMost(most.files, names, 'files', problems),
      stamp: stampOf(stats),
    }
    const users = entries
      .filter((entry) => entry.isDirectory() && !/^\.|\.json$/.test(entry.name))
      .map(({ name }) => name)
    const places = [own]
    for (const user of atMost(most.users, users, 'directories of users', problems)) {
      const below = `${directory}/${user}`
      const place = await placeOf(below, user, await uidOf(user)).catch(codeOf)
      if (typeof place !== 'string') {
        const kept = atMost(most.filesOfUser, place.names, `files in ${user}/`, problems)
        places.push({ ...place, names: kept })
      } else if (place !== 'ENOENT') {
        blind.add(below)
        problems.push(`${user}/ ${place}`)
      }
    }
    return { places, isBlind: (path) => blind.has(path), problem: problems.join('; ') }
  } catch (error) {
    const code = codeOf(error)
    const isGone = code === 'ENOENT'
    const problem = `cannot be read (${isGone ? 'it does not exist' : code})`
    return { places: [], isBlind: () => !isGone, problem }
  }
}

/** The place of a user, or what is wrong with it. */
async function placeOf(
  directory: string,
  user: string,
  uid: number | null,
): Promise<Place | string> {
  if (uid === null) return 'is ignored: there is no such user'
  const stats = await lstat(directory)
  if (stats.uid !== uid && stats.uid !== root) {
    return `is not read: it belongs to user ${stats.uid}, not to ${user} (chown ${user})`
  }
  if ((stats.mode & 0o022) !== 0) {
    return 'is not read: others may write to it (chmod go-w)'
  }
  const names = (await readdir(directory)).filter(isManifestName)
  return { directory, user, owners: new Set([root, uid]), names, stamp: stampOf(stats) }
}

/** Whether a place is still what it was when it was looked around; what is in it may have changed. */
export async function stillStands({ directory, stamp }: Place): Promise<boolean> {
  const stats = await lstat(directory).catch(() => null)
  return stats !== null && stampOf(stats) === stamp
}

/** Whether one more file than it had can be a manifest of this place. */
export function hasRoom({ user, names }: Place, more: number): boolean {
  return names.length + more <= (user === null ? most.files : most.filesOfUser)
}

function stampOf({ dev, ino, uid, mode }: Stats): string {
  return `${dev}:${ino}:${uid}:${mode}`
}

function isOpenToAll(mode: number): boolean {
  return (mode & 0o002) !== 0
}

function atMost(
  count: number,
  names: readonly string[],
  what: string,
  problems: string[],
): readonly string[] {
  const extra = names.length - count
  if (extra > 0) problems.push(`${extra} ${what} more than ${count}; they are left out`)
  return names.toSorted().slice(0, count)
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? 'unknown'
}
