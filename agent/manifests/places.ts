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

/** What is wrong with the directories, in words; all empty while nothing is. */
export interface DirectoryFault {
  readonly problem: string
  /** Why that is so, or why it counts. */
  readonly cause: string
  readonly fix: string
}

/** What looking around answers. */
export interface Places {
  readonly places: readonly Place[]
  /** Whether a directory is there but what is in it cannot be known now. */
  readonly isBlind: (directory: string) => boolean
  readonly fault: DirectoryFault
}

/** More files than this are not looked at, the last ones by name: of all, and of one user. */
const most = { files: 20_000, filesOfUser: 1000, users: 1000 } as const

const root = 0

/** Nothing is wrong. */
export const noFault: DirectoryFault = { problem: '', cause: '', fix: '' }

/** Of several faults, so many are explained; all are named. */
const mostExplained = 3

/** Looks around. Never rejects. `uidOf` answers the number of a local user, null for nobody. */
export async function lookAround(
  directory: string,
  uidOf: (user: string) => Promise<number | null>,
): Promise<Places> {
  const trusted = [root, ownUser()]
  const faults: DirectoryFault[] = []
  const blind = new Set<string>()
  try {
    const stats = await lstat(directory)
    const { uid } = stats
    const fault = faultOfTop(directory, stats)
    if (fault !== null) return { places: [], isBlind: () => true, fault }
    const entries = await readdir(directory, { withFileTypes: true })
    const names = entries.map(({ name }) => name).filter(isManifestName)
    const own: Place = {
      directory,
      user: null,
      owners: new Set([...trusted, uid]),
      names: atMost(most.files, names, 'files', faults),
      stamp: stampOf(stats),
    }
    const users = entries
      .filter((entry) => entry.isDirectory() && !/^\.|\.json$/.test(entry.name))
      .map(({ name }) => name)
    const places = [own]
    for (const user of atMost(most.users, users, 'directories of users', faults)) {
      const below = `${directory}/${user}`
      const place = await placeOf(below, user, await uidOf(user)).catch((error: unknown) =>
        isMissing(error) ? null : unreadable(below, codeOf(error)),
      )
      if (place === null) continue
      if ('names' in place) {
        const kept = atMost(most.filesOfUser, place.names, `files in ${user}/`, faults)
        places.push({ ...place, names: kept })
      } else {
        blind.add(below)
        faults.push({ ...place, problem: `${user}/ ${place.problem}` })
      }
    }
    return { places, isBlind: (path) => blind.has(path), fault: together(faults) }
  } catch (error) {
    const isGone = isMissing(error)
    const fault = isGone ? missing(directory) : unreadable(directory, codeOf(error))
    return { places: [], isBlind: () => !isGone, fault }
  }
}

/** What is wrong with the directory itself; null where it may be read. */
function faultOfTop(directory: string, stats: Stats): DirectoryFault | null {
  if (!stats.isDirectory()) {
    const isLink = stats.isSymbolicLink()
    return {
      problem: isLink ? 'is a symbolic link' : 'is not a directory',
      cause: isLink ? 'links are not followed' : 'something else stands under that name',
      fix: isLink
        ? 'set paths.manifests in agent.json to where it leads'
        : `move it away: ${missing(directory).fix}`,
    }
  }
  if (!isOpenToAll(stats.mode)) return null
  return {
    problem: 'is not read: anybody may write to it',
    cause: 'whoever writes there registers services as the administrator does',
    fix: `chmod o-w ${directory}`,
  }
}

function missing(directory: string): DirectoryFault {
  return {
    problem: 'does not exist',
    cause: 'nobody has made it, or it stands elsewhere',
    fix: `install -d -m 755 ${directory}, or set paths.manifests in agent.json`,
  }
}

function unreadable(directory: string, code: string): DirectoryFault {
  const problem = `cannot be read (${code})`
  switch (code) {
    case 'EACCES':
    case 'EPERM':
      return {
        problem,
        cause: 'the agent’s user may not read it, or not pass a directory above it',
        fix: `chmod o+rx ${directory} and the directories above it`,
      }
    case 'ENOTDIR':
    case 'ELOOP':
      return {
        problem,
        cause: 'something above it is no directory, or a link that leads to itself',
        fix: `namei -l ${directory} shows which; set paths.manifests in agent.json to where it is`,
      }
    default:
      return {
        problem,
        cause: 'the file system failed',
        fix: `ls -la ${directory} tells whether that lasts; the agent tries again by itself`,
      }
  }
}

/** The place of a user, or what is wrong with it. */
async function placeOf(
  directory: string,
  user: string,
  uid: number | null,
): Promise<Place | DirectoryFault> {
  if (uid === null) {
    return {
      problem: 'is ignored: there is no such user',
      cause: 'a directory in it is for the local user whose name it has',
      fix: `make the user, or move ${directory} away`,
    }
  }
  const stats = await lstat(directory)
  if (stats.uid !== uid && stats.uid !== root) {
    return {
      problem: `is not read: it belongs to user ${stats.uid}, not to ${user}`,
      cause: 'its owner registers services as that user',
      fix: `chown ${user} ${directory}`,
    }
  }
  if ((stats.mode & 0o022) !== 0) {
    return {
      problem: 'is not read: others may write to it',
      cause: 'whoever writes there registers services as that user',
      fix: `chmod go-w ${directory}`,
    }
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
  faults: DirectoryFault[],
): readonly string[] {
  const extra = names.length - count
  if (extra > 0) {
    faults.push({
      problem: `${extra} ${what} more than ${count}; they are left out`,
      cause: 'there are more than the agent reads; the last by name do not count',
      fix: 'remove those that are not needed',
    })
  }
  return names.toSorted().slice(0, count)
}

function together(faults: readonly DirectoryFault[]): DirectoryFault {
  const some = faults.slice(0, mostExplained)
  return {
    problem: faults.map(({ problem }) => problem).join('; '),
    cause: [...new Set(some.map(({ cause }) => cause))].join('; '),
    fix: [...new Set(some.map(({ fix }) => fix))].join('; '),
  }
}

function isMissing(error: unknown): boolean {
  return codeOf(error) === 'ENOENT'
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? 'unknown'
}
