/**
 * Owns the writing of state files so that at any byte of a crash either the old or the new content
 * is there, whole: a temporary file beside it, fsync, rename, fsync of the directory.
 */

import { randomBytes } from 'node:crypto'
import { open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'

/** What to write; pieces are asked for one by one, so that a large file need not be in memory whole. */
export type FileContent = string | Uint8Array | Iterable<string>

/** Settings of a write. */
export interface AtomicFileSettings {
  /** Permissions, whatever the process's mask. @default 0o600 */
  readonly mode?: number
}

/** Replaces `path` as a whole. The directory must exist. Throws what the file system throws. */
export async function writeFileAtomic(
  path: string,
  content: FileContent,
  settings: AtomicFileSettings = {},
): Promise<void> {
  // A dot in front, so that whoever watches the directory for finished files leaves it alone.
  const temporary = `${dirname(path)}/.${randomBytes(6).toString('hex')}.tmp`
  try {
    await writeFileSynced(temporary, content, settings)
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
  await syncDirectory(dirname(path))
}

/** Creates a file that must not exist, with its content on the disk when the promise resolves. */
export async function writeFileSynced(
  path: string,
  content: FileContent,
  settings: AtomicFileSettings = {},
): Promise<void> {
  const { mode = 0o600 } = settings
  const file = await open(path, 'wx', mode)
  try {
    await file.chmod(mode)
    await file.writeFile(content)
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Makes the names in a directory durable. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}
