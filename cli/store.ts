/** Owns `meshctl store`: how the store is, a backup of it, and the access control of an etcd. */

import { createHash } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'
import { open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { syncDirectory } from '#shared/lifecycle/atomic-file.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { ControllerClient } from '#shared/rpc/controller-client.ts'
import type { StoreReport } from '#shared/rpc/store-messages.ts'
import type { KeyValue } from '#shared/store/key-value.ts'
import { exitCodes } from './exit-codes.ts'
import type { Printer } from './output/printer.ts'
import { bytes, duration, pairs } from './output/table.ts'

const hashBytes = 32

/** Prints how the store is; succeeds when it can be written and has nothing to complain of. */
export async function storeStatus(parts: {
  readonly controller: ControllerClient
  readonly printer: Printer
}): Promise<number> {
  const report = await parts.controller.call('StoreOperations', 'DescribeStore', {})
  parts.printer.result(report, () => render(report))
  const inOrder = report.hasLeader && report.problems.length === 0 && report.movedTo === ''
  return inOrder ? exitCodes.ok : exitCodes.notInOrder
}

/** Holds everybody to their own keys in an etcd. */
export async function storeInit(
  parts: { readonly controller: ControllerClient; readonly printer: Printer },
  settings: { readonly endpoints: readonly string[] },
): Promise<number> {
  const made = await parts.controller.call('StoreOperations', 'InitStore', settings)
  parts.printer.result(
    made,
    () =>
      `access control is on: ${made.admins.join(', ')} may do everything, ` +
      `${made.hosts} hosts write their own keys (${made.ranges} services)`,
  )
  return exitCodes.ok
}

/** Copies the embedded store into an etcd, and says what is to be done then. */
export async function storeMigrate(
  parts: { readonly controller: ControllerClient; readonly printer: Printer },
  settings: { readonly endpoints: readonly string[]; readonly replace: boolean },
): Promise<number> {
  const moved = await parts.controller.call('StoreOperations', 'MigrateStore', settings)
  const to = settings.endpoints.join(',')
  parts.printer.result(
    moved,
    () => `${moved.keys} keys are in ${to} and were compared, ${moved.leased} of them hosts' own`,
  )
  const minutes = duration(moved.bridgeMs)
  parts.printer.note(`the embedded store takes no lasting change any more. Within ${minutes}:
  1. set "store": "${to}" in the controller's configuration
  2. restart the controller
  3. meshctl store status
until then it can be undone: meshctl store migrate --undo`)
  return exitCodes.ok
}

/** Takes the embedded store into use again. */
export async function storeUndoMigration(parts: {
  readonly controller: ControllerClient
  readonly printer: Printer
}): Promise<number> {
  const undone = await parts.controller.call('StoreOperations', 'UndoMigration', {})
  parts.printer.result(
    undone,
    () => `the embedded store is in force; the copy in ${undone.movedTo} is of no use any more`,
  )
  return exitCodes.ok
}

/**
 * Writes a backup into a file that must not exist. It is checked against its own hash before the
 * file has its name.
 */
export async function storeBackup(
  parts: { readonly store: KeyValue; readonly printer: Printer },
  settings: { readonly file: string },
): Promise<number> {
  const { file } = settings
  const unfinished = `${file}.unfinished`
  const handle = await create(file, unfinished)
  try {
    const size = await receive(parts.store.snapshot(), handle)
    await handle.sync()
    await rename(unfinished, file)
    await syncDirectory(dirname(file))
    parts.printer.result({ file, bytes: size }, () => `${file}: ${bytes(size)}, hash verified`)
    return exitCodes.ok
  } catch (error) {
    for (const path of [unfinished, file]) await rm(path, { force: true })
    throw error
  } finally {
    await handle.close()
  }
}

/** Takes the last bytes for the hash of what precedes them. Answers how many there were in all. */
async function receive(pieces: AsyncIterable<Buffer>, into: FileHandle): Promise<number> {
  const hash = createHash('sha256')
  let tail: Buffer = Buffer.alloc(0)
  let size = 0
  for await (const piece of pieces) {
    await into.writeFile(piece)
    size += piece.length
    const all = Buffer.concat([tail, piece])
    const sure = Math.max(0, all.length - hashBytes)
    hash.update(all.subarray(0, sure))
    tail = all.subarray(sure)
  }
  if (size > hashBytes && hash.digest().equals(tail)) return size
  throw new MeshError(`the backup arrived damaged (${size} bytes)`, {
    code: 'backup-damaged',
    hint: 'nothing was kept of it; run it again, and look at the store’s log when it happens again',
  })
}

async function create(file: string, unfinished: string): Promise<FileHandle> {
  const refused = (why: string, cause?: unknown): MeshError =>
    new MeshError(`cannot write the backup ${file}: ${why}`, {
      code: 'backup-unwritable',
      hint: 'name a file that does not exist, in a directory you may write',
      cause,
    })
  try {
    // Taken for a moment, so that no file of that name is ever replaced.
    await (await open(file, 'wx', 0o600)).close()
    return await open(unfinished, 'w', 0o600)
  } catch (error) {
    throw refused(messageOf(error), error)
  }
}

function render(report: StoreReport): string {
  const { store, version, revision, problems } = report
  const kind = store.kind === 'embedded' ? 'embedded in the controller' : 'etcd'
  return pairs([
    ['store', `${kind}, API version ${version}`],
    ['endpoints', store.endpoints.join(', ')],
    ['revision', String(revision)],
    ['size', `${bytes(report.bytes)}, ${bytes(report.bytesInUse)} in use`],
    ['writable', report.hasLeader && problems.length === 0 ? 'yes' : 'no'],
    ...(report.movedTo === '' ? [] : [['moved to', report.movedTo] as const]),
    ...problems.map((problem): [string, string] => ['problem', problem]),
    ...report.warnings.map((warning): [string, string] => ['warning', warning]),
    ...(report.hasLeader ? [] : [['problem', 'it has no leader: is its quorum lost?'] as const]),
  ])
}
