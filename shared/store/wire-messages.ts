/** Owns the translation of single messages between etcd's form and that of `KeyValue`. Pure. */

import type {
  Comparison,
  Entry,
  LeaseId,
  Operation,
  OperationResult,
  StoreEvent,
} from './key-value.ts'
import type { Compare, RequestOp, ResponseOp, WatchResponse, WireEntry, WireEvent } from './wire.ts'
import { WireError } from './wire.ts'

/** Why a server ended a watch. */
export function cancellation(response: WatchResponse): WireError {
  if (response.compact_revision !== '0') {
    const revision = response.compact_revision
    return new WireError(11, `required revision has been compacted; the oldest kept is ${revision}`)
  }
  const reason = response.cancel_reason
  if (reason.includes('permission denied')) return new WireError(7, reason)
  return new WireError(14, reason === '' ? 'the server cancelled the watch' : reason)
}

/** A record, as the mesh sees it. */
export function readEntry(kv: WireEntry): Entry {
  return {
    key: kv.key.toString(),
    value: kv.value.toString(),
    createRevision: Number(kv.create_revision),
    modRevision: Number(kv.mod_revision),
    version: Number(kv.version),
    lease: kv.lease === '0' ? null : (kv.lease as LeaseId),
  }
}

/** A change of a key. */
export function readEvent(event: WireEvent): StoreEvent {
  return event.type === 'Put'
    ? { kind: 'put', entry: readEntry(event.kv) }
    : {
        kind: 'delete',
        key: event.kv.key.toString(),
        modRevision: Number(event.kv.mod_revision),
      }
}

/** A condition of a transaction. */
export function writeComparison(comparison: Comparison): Compare {
  const key = Buffer.from(comparison.key)
  switch (comparison.kind) {
    case 'mod-revision':
      return { key, result: 'Equal', target: 'Mod', mod_revision: String(comparison.equals) }
    case 'version':
      return { key, result: 'Equal', target: 'Version', version: String(comparison.equals) }
    case 'value':
      return { key, result: 'Equal', target: 'Value', value: Buffer.from(comparison.equals) }
  }
}

/** A step of a transaction. */
export function writeOperation(operation: Operation): RequestOp {
  const key = Buffer.from(operation.key)
  switch (operation.kind) {
    case 'get':
      return { request_range: { key } }
    case 'put':
      return {
        request_put: { key, value: Buffer.from(operation.value), lease: operation.lease ?? '0' },
      }
    case 'delete':
      return { request_delete_range: { key } }
  }
}

/** What a step answered. */
export function readResult(operation: Operation, response: ResponseOp): OperationResult {
  switch (operation.kind) {
    case 'get': {
      const found = response.response_range?.kvs[0]
      return { kind: 'get', entry: found === undefined ? null : readEntry(found) }
    }
    case 'put':
      return { kind: 'put' }
    case 'delete':
      return { kind: 'delete', deleted: response.response_delete_range?.deleted !== '0' }
  }
}
