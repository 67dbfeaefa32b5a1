/** Owns what is said when a file of the state directory cannot be read, used or written; worded once. */

import { readFile } from 'node:fs/promises'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'

/** The file cannot be used; `without` says what it would mean to go on without it. */
export function damaged(path: string, why: string, without: string): MeshError {
  return new MeshError(`${path} is damaged: ${why}`, {
    code: 'state-damaged',
    hint: `restore the state directory from a backup; ${without}`,
  })
}

/** The disk, or the system, did not give it now; it may the next time. */
export function unreadable(path: string, cause: unknown): MeshError {
  return new MeshError(`cannot read ${path}: ${messageOf(cause)}`, {
    code: 'state-unreadable',
    hint: 'mesh-controller must run as the user that owns its state directory',
    cause,
  })
}

/** The disk did not take it; `what` is a path, or words for several. */
export function unwritable(what: string, cause: unknown): MeshError {
  return new MeshError(`cannot write ${what}: ${messageOf(cause)}`, {
    code: 'state-unwritable',
    hint: 'mesh-controller must run as the user that owns its state directory, with space on the disk',
    cause,
  })
}

/** A version to come wrote it. */
export function fromNewerVersion(path: string, found: number, known: number): MeshError {
  return new MeshError(`${path} is of format ${found}; this mesh-controller reads up to ${known}`, {
    code: 'state-from-newer-version',
    hint: 'run the newer mesh-controller that wrote it, or name another state directory',
  })
}

/** The text of a file, or null where there is none. Throws MeshError `state-unreadable`. */
export async function readIfThere(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw unreadable(path, error)
  }
}
