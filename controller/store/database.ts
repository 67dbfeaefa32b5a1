/**
 * Owns the embedded store's file: its form, its version, and who may open it. A file written by a
 * newer version, or held by another process, is refused and left untouched.
 */

import { closeSync, existsSync, openSync, readSync, statSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import type { Random } from '#shared/lifecycle/clock.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'

/** Version of the tables below; kept in the file's `user_version`. */
const schemaVersion = 1
/** `user_version` in the file's own header (SQLite file format §1.3), big-endian. */
const versionOffset = 60
const headerBytes = 100
/** SQLite's own default, which our files keep. */
export const pageBytes = 4096
const magic = 'SQLite format 3\0'
const sqliteBusy = 5

/**
 * `record` holds every version of every key that is kept. `replaced` is the revision that took a
 * record's place, null for a live one; a deletion is a record of version 0 that replaces itself.
 * `id` grows with every change, so it orders the changes of one revision.
 */
const schema = `
  CREATE TABLE record (
    id INTEGER PRIMARY KEY,
    revision INTEGER NOT NULL,
    key BLOB NOT NULL,
    value BLOB NOT NULL,
    create_revision INTEGER NOT NULL,
    version INTEGER NOT NULL,
    lease TEXT NOT NULL,
    replaced INTEGER
  ) STRICT;
  CREATE UNIQUE INDEX record_live ON record (key) WHERE replaced IS NULL;
  CREATE INDEX record_live_lease ON record (lease) WHERE replaced IS NULL AND lease <> '0';
  CREATE INDEX record_key ON record (key, revision);
  CREATE INDEX record_revision ON record (revision);
  CREATE INDEX record_replaced ON record (replaced) WHERE replaced IS NOT NULL;
  CREATE TABLE lease (
    id TEXT PRIMARY KEY,
    ttl_seconds INTEGER NOT NULL,
    owner TEXT NOT NULL
  ) STRICT;
  CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
`

/** Opens the file, making it (mode 0600) where there is none. */
export function openDatabase(parts: { readonly random: Random }, file: string): DatabaseSync {
  refuseNewer(file, existsSync(file) ? versionInHeader(file) : 0)
  refuseEmpty(file)
  let database: DatabaseSync | null = null
  try {
    closeSync(openSync(file, 'a', 0o600))
    database = new DatabaseSync(file)
    database.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA synchronous = FULL')
    prepare(database, file, parts.random)
    return database
  } catch (error) {
    database?.close()
    throw refusal(file, error)
  }
}

/** SQLite takes an empty file for a new one, and so a store that lost all it had for a fresh one. */
function refuseEmpty(file: string): void {
  const found = statSync(file, { throwIfNoEntry: false })
  if (found?.size !== 0 || existsSync(`${file}-wal`)) return
  throw new MeshError(`store file ${file} is empty`, {
    code: 'store-unreadable',
    hint: 'Restore a backup; if this controller never served a mesh, delete the file instead.',
  })
}

function prepare(database: DatabaseSync, file: string, random: Random): void {
  const version = readVersion(database)
  refuseNewer(file, version)
  if (version === 0) {
    database.exec(`BEGIN EXCLUSIVE; ${schema} PRAGMA user_version = ${schemaVersion}; COMMIT`)
  }
  const verdict = Object.values(database.prepare('PRAGMA quick_check(1)').get() ?? {})[0]
  if (verdict !== 'ok') throw new Error(String(verdict))
  database.exec('PRAGMA journal_mode = WAL')
  const addFact = database.prepare('INSERT OR IGNORE INTO fact (name, value) VALUES (?, ?)')
  addFact.run('cluster_id', random.bytes(8).readBigUInt64BE().toString())
  addFact.run('member_id', random.bytes(8).readBigUInt64BE().toString())
  addFact.run('compacted', '-1')
}

function readVersion(database: DatabaseSync): number {
  return Number(Object.values(database.prepare('PRAGMA user_version').get() ?? {})[0])
}

/** Read from the header's bytes: opening the file would already write beside it. */
function versionInHeader(file: string): number {
  const header = Buffer.alloc(headerBytes)
  try {
    const descriptor = openSync(file, 'r')
    try {
      readSync(descriptor, header)
    } finally {
      closeSync(descriptor)
    }
  } catch (error) {
    throw refusal(file, error)
  }
  return header.toString('latin1').startsWith(magic) ? header.readInt32BE(versionOffset) : 0
}

/** Whether bytes begin as a file of this store does, of this version or another. */
export function isStoreFile(bytes: Buffer): boolean {
  return (
    bytes.length >= headerBytes &&
    bytes.toString('latin1', 0, magic.length) === magic &&
    bytes.readInt32BE(versionOffset) > 0
  )
}

function refuseNewer(file: string, version: number): void {
  if (version <= schemaVersion) return
  throw new MeshError(
    `store file ${file} has schema version ${version}; this program knows ${schemaVersion}`,
    {
      code: 'store-from-newer-version',
      hint: 'Run the newer controller that wrote it, or restore a backup made before the upgrade.',
    },
  )
}

function refusal(file: string, error: unknown): MeshError {
  if (error instanceof MeshError) return error
  if (error instanceof Error && 'errcode' in error && error.errcode === sqliteBusy) {
    return new MeshError(`store file ${file} is in use by another process`, {
      code: 'store-locked',
      hint: 'Only one controller may use it: is another one running?',
      cause: error,
    })
  }
  return new MeshError(`store file ${file} cannot be used: ${messageOf(error)}`, {
    code: 'store-unreadable',
    hint: 'Check that it is this controller’s and not damaged; else restore a backup.',
    cause: error,
  })
}
