/**
 * Owns the move from the embedded store to an etcd: no lasting change is taken any more, everything is
 * copied, compared, and only then the embedded store remembers for good that it has moved. Any failure
 * before that undoes it. What hosts own is copied under a lease of its own, so that nobody vanishes
 * before the hosts have put it there themselves.
 */

import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import { controllerPrefix } from '#shared/store/keys.ts'
import type { Entry, KeyValue, LeaseId, Operation } from '#shared/store/key-value.ts'
import type { EmbeddedStore } from './embedded-store.ts'

/** What it leans on. */
export interface MigrationParts {
  readonly source: EmbeddedStore
  readonly target: KeyValue
  readonly logger: Logger
}

/** What was copied. */
export interface Migration {
  readonly keys: number
  /** Those that hosts own. */
  readonly leased: number
  /** How long those live without their host, milliseconds. */
  readonly bridgeMs: number
}

/** Everything the mesh keeps; see `keys.ts`. */
const everything = '/mesh'
/** Time for the operator to restart the controller, and for hosts to come over. */
const bridgeMs = 600_000
const keysAtOnce = 100
const bytesAtOnce = 512 * 1024

/** Moves. Throws MeshError; then nothing has changed but that the target may hold copies. */
export async function migrate(
  parts: MigrationParts,
  settings: { readonly to: string; readonly replace: boolean },
): Promise<Migration> {
  const { source, target, logger } = parts
  const { to } = settings
  if (source.movedTo !== '') throw alreadyMoved(source.movedTo)
  await empty(target, settings)
  await source.moveTo(to, false)
  try {
    const { entries } = await source.keyValue.list(everything)
    const copied = entries.filter(({ key, lease }) => lease === null || !isOfControllers(key))
    const leased = copied.filter(({ lease }) => lease !== null).length
    const { lease } = await target.grantLease(bridgeMs)
    for (const batch of batches(copied)) await put(target, batch, lease)
    await compare(target, copied)
    await source.moveTo(to, true)
    logger.info({ audit: 'store-moved', to, keys: copied.length, leased }, 'the store has moved')
    return { keys: copied.length, leased, bridgeMs }
  } catch (error) {
    await source.moveTo('', false)
    throw error
  }
}

/** Puts go on here. What the target holds stays there. */
export async function undoMigration(
  parts: Pick<MigrationParts, 'source' | 'logger'>,
): Promise<string> {
  const { source, logger } = parts
  const { movedTo } = source
  if (movedTo === '') {
    throw new MeshError('this store has not moved', { code: 'store-not-moved' })
  }
  await source.moveTo('', false)
  logger.warn({ audit: 'store-move-undone', from: movedTo }, 'the embedded store is in force again')
  return movedTo
}

async function empty(
  target: KeyValue,
  { to, replace }: { readonly to: string; readonly replace: boolean },
): Promise<void> {
  const { entries } = await target.list(everything)
  if (entries.length === 0) return
  if (!replace) {
    throw new MeshError(`${to} holds ${entries.length} keys of a mesh already`, {
      code: 'target-not-empty',
      hint: 'is it another mesh’s? To replace what an earlier try has left, add --replace',
    })
  }
  for (let at = 0; at < entries.length; at += keysAtOnce) {
    const success = entries
      .slice(at, at + keysAtOnce)
      .map(({ key }): Operation => ({ kind: 'delete', key }))
    await target.transact({ compare: [], success })
  }
}

async function put(target: KeyValue, batch: readonly Entry[], bridge: LeaseId): Promise<void> {
  const { succeeded } = await target.transact({
    compare: batch.map(({ key }) => ({ kind: 'version', key, equals: 0 })),
    success: batch.map(({ key, value, lease }): Operation => ({
      kind: 'put',
      key,
      value,
      ...(lease === null ? {} : { lease: bridge }),
    })),
  })
  if (!succeeded) throw changed('somebody writes to it')
}

/** The target holds exactly what was copied. */
async function compare(target: KeyValue, copied: readonly Entry[]): Promise<void> {
  const found = new Map<string, string>()
  for (const { key, value } of (await target.list(everything)).entries) found.set(key, value)
  const wrong = copied.find(({ key, value }) => found.get(key) !== value)
  if (wrong !== undefined) throw changed(`${wrong.key} is not there as it was written`)
  if (found.size !== copied.length) throw changed(`it holds ${found.size} keys`)
}

function* batches(entries: readonly Entry[]): Generator<readonly Entry[]> {
  let batch: Entry[] = []
  let bytes = 0
  for (const entry of entries) {
    const size = entry.key.length + Buffer.byteLength(entry.value)
    if (batch.length > 0 && (batch.length === keysAtOnce || bytes + size > bytesAtOnce)) {
      yield batch
      batch = []
      bytes = 0
    }
    batch.push(entry)
    bytes += size
  }
  if (batch.length > 0) yield batch
}

/** Such as who leads: of this moment, and of no use elsewhere. */
function isOfControllers(key: string): boolean {
  return key.startsWith(controllerPrefix)
}

function changed(why: string): MeshError {
  return new MeshError(`the copy could not be verified: ${why}`, {
    code: 'target-changed',
    hint: 'nothing has moved; make sure that nobody else uses that etcd for a mesh, then try again with --replace',
  })
}

function alreadyMoved(to: string): MeshError {
  return new MeshError(`this store has moved to ${to} already`, {
    code: 'store-moved',
    hint: 'name it as "store" in the controller’s configuration and restart the controller, or run meshctl store migrate --undo',
  })
}
