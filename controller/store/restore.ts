/**
 * Owns putting a backup in the place of the embedded store's file, while no controller runs: the
 * backup is checked whole first, what was there is kept beside it, and a step that was interrupted
 * keeps the controller from starting until the restore was run again.
 */

import { createHash } from 'node:crypto'
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { syncDirectory } from '#shared/lifecycle/atomic-file.ts'
import type { Random } from '#shared/lifecycle/clock.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import { isStoreFile, openDatabase, pageBytes } from './database.ts'
import { Mvcc } from './mvcc.ts'

const hashBytes = 32
const restoring = '.restoring'
/** What was there, kept. */
const before = '.before-restore'
const logs = ['-wal', '-shm'] as const

/** Refuses to open a file whose restore was interrupted. Throws MeshError `store-half-restored`. */
export function refuseHalfRestored(file: string): void {
  if (!existsSync(file + restoring)) return
  throw new MeshError(`a restore of the store ${file} was begun and not finished`, {
    code: 'store-half-restored',
    hint: `run the restore again; to give it up, delete ${file}${restoring} and, if ${file} is missing, rename ${file}${before} to it`,
  })
}

/**
 * Restores. Answers the revision the store is at now, and where the old file is, if there was one.
 *
 * @throws MeshError `backup-unusable`, `store-locked`, `store-from-newer-version`
 */
export async function restoreStore(
  parts: { readonly random: Random },
  settings: { readonly backup: string; readonly file: string },
): Promise<{ readonly revision: number; readonly kept: string | null }> {
  const { backup, file } = settings
  const fresh = file + restoring
  rmSync(fresh, { force: true })
  for (const log of logs) rmSync(fresh + log, { force: true })
  refuseLocked(parts, file)
  const revision = prepare(parts, fresh, readBackup(backup))
  const had = existsSync(file)
  // Never the new file beside the old one's log: SQLite would apply the one to the other.
  for (const path of ['', ...logs].toReversed()) {
    rmSync(file + before + path, { force: true })
    if (existsSync(file + path)) renameSync(file + path, file + before + path)
  }
  await syncDirectory(dirname(file))
  renameSync(fresh, file)
  await syncDirectory(dirname(file))
  return { revision, kept: had ? file + before : null }
}

/** The database in a backup, with its own hash checked where it has one. */
function readBackup(path: string): Buffer {
  let bytes: Buffer
  try {
    bytes = readFileSync(path)
  } catch (error) {
    throw unusable(path, messageOf(error), error)
  }
  const odd = bytes.length % pageBytes
  if (bytes.length < pageBytes || (odd !== 0 && odd !== hashBytes)) {
    throw unusable(path, `it is no whole backup (${bytes.length} bytes)`)
  }
  if (!isStoreFile(bytes)) throw unusable(path, 'it is no backup of an embedded store')
  if (odd === 0) return bytes
  const database = bytes.subarray(0, -hashBytes)
  if (!createHash('sha256').update(database).digest().equals(bytes.subarray(-hashBytes))) {
    throw unusable(path, 'its content does not have the hash it ends with')
  }
  return database
}

/** Writes the new file and opens it once, which checks it and leaves no log beside it. */
function prepare(parts: { readonly random: Random }, fresh: string, database: Buffer): number {
  try {
    writeFileSync(fresh, database, { mode: 0o600, flush: true })
    const mvcc = new Mvcc({ database: openDatabase(parts, fresh) })
    const { revision } = mvcc
    mvcc.close()
    return revision
  } catch (error) {
    for (const log of ['', ...logs]) rmSync(fresh + log, { force: true })
    throw error
  }
}

/** A damaged store may be replaced, one that is in use may not. */
function refuseLocked(parts: { readonly random: Random }, file: string): void {
  if (!existsSync(file)) return
  try {
    openDatabase(parts, file).close()
  } catch (error) {
    if (error instanceof MeshError && error.code === 'store-locked') throw error
  }
}

function unusable(path: string, why: string, cause?: unknown): MeshError {
  return new MeshError(`the backup ${path} cannot be used: ${why}`, {
    code: 'backup-unusable',
    hint: 'it is a file made by meshctl store backup, or a copy of store.sqlite of a stopped controller',
    cause,
  })
}
