/**
 * Owns the meaning of etcd's key requests: validation, comparisons, ranges, sorting, answers, in
 * the order and with the words of etcd's own server. Works on `Mvcc`; knows no callers and no wire.
 */

import type {
  Compare,
  CompactionRequest,
  DeleteRangeRequest,
  DeleteRangeResponse,
  KeyRange,
  PutRequest,
  PutResponse,
  RangeRequest,
  RangeResponse,
  RequestOp,
  ResponseHeader,
  ResponseOp,
  SortTarget,
  TxnRequest,
  TxnResponse,
  WireEntry,
} from '#shared/store/wire.ts'
import type { Interval, Mvcc, StoredRecord, Writer } from './mvcc.ts'
import { refusals } from './refusals.ts'

const mostOperations = 128
/** etcd's default limit of a request. */
const mostBytes = 1.5 * 1024 * 1024
const zeroByte = Buffer.from([0])
const noBytes = Buffer.alloc(0)

/** The keys a request is about. */
export function intervalOf({ key = noBytes, range_end: end = noBytes }: KeyRange): Interval {
  if (end.length === 0) return { start: key, end: Buffer.concat([key, zeroByte]) }
  return { start: key, end: end.equals(zeroByte) ? null : end }
}

/** Whether an interval holds a key. */
export function contains(interval: Interval, key: Buffer): boolean {
  return (
    Buffer.compare(key, interval.start) >= 0 &&
    (interval.end === null || Buffer.compare(key, interval.end) < 0)
  )
}

/** A record as it travels; a deletion keeps its key and revision only. */
export function toWire(record: StoredRecord): WireEntry {
  return {
    key: record.key,
    value: record.value,
    create_revision: String(record.createRevision),
    mod_revision: String(record.modRevision),
    version: String(record.version),
    lease: record.lease,
  }
}

/** Answers a range of what is committed. */
export function range(mvcc: Mvcc, header: ResponseHeader, request: RangeRequest): RangeResponse {
  checkRange(request)
  checkRevision(mvcc, mvcc.revision, request)
  return readRange(mvcc, header, mvcc.revision, request)
}

/** Carries out a put. */
export function put(
  mvcc: Mvcc,
  writer: Writer,
  header: ResponseHeader,
  request: PutRequest,
): PutResponse {
  checkPut(request)
  checkLease(mvcc, request)
  checkKept(mvcc, request)
  return writePut(mvcc, writer, header, request)
}

/** Carries out a deletion. */
export function deleteRange(
  mvcc: Mvcc,
  writer: Writer,
  header: ResponseHeader,
  request: DeleteRangeRequest,
): DeleteRangeResponse {
  checkKey(request)
  return writeDelete(mvcc, writer, header, request)
}

/** Carries out a transaction. Nothing is written unless the whole of it is valid. */
export function txn(
  mvcc: Mvcc,
  writer: Writer,
  header: ResponseHeader,
  request: TxnRequest,
): TxnResponse {
  const { compare = [], success = [], failure = [] } = request
  checkTxn(compare, success, failure)
  const succeeded = compare.every((comparison) => holds(mvcc, comparison))
  const operations = succeeded ? success : failure
  for (const operation of operations) {
    if (operation.request_put) {
      checkKept(mvcc, operation.request_put)
      checkLease(mvcc, operation.request_put)
    }
    if (operation.request_range) checkRevision(mvcc, writer.revision, operation.request_range)
  }
  const responses = operations.map((operation) => run(mvcc, writer, operation))
  return { header: at(header, writer.revision), succeeded, responses }
}

/** Whether a transaction changes nothing, however its comparisons come out. */
export function isRead({ success = [], failure = [] }: TxnRequest): boolean {
  return [...success, ...failure].every(
    (operation) => !operation.request_put && !operation.request_delete_range,
  )
}

/** Whether the store may be compacted to a revision; throws where not. */
export function checkCompaction(mvcc: Mvcc, request: CompactionRequest): number {
  const revision = Number(request.revision ?? 0)
  if (revision <= mvcc.compacted) throw refusals.compacted()
  if (revision > mvcc.revision) throw refusals.futureRevision()
  return revision
}

function run(mvcc: Mvcc, writer: Writer, operation: RequestOp): ResponseOp {
  const header: ResponseHeader = { cluster_id: '0', member_id: '0', revision: '0', raft_term: '0' }
  if (operation.request_put) {
    return { response_put: writePut(mvcc, writer, header, operation.request_put) }
  }
  if (operation.request_delete_range) {
    const { request_delete_range: request } = operation
    return { response_delete_range: writeDelete(mvcc, writer, header, request) }
  }
  const request = operation.request_range ?? {}
  return { response_range: readRange(mvcc, header, writer.revision, request) }
}

function at(header: ResponseHeader, revision: number): ResponseHeader {
  return { ...header, revision: String(revision) }
}

function readRange(
  mvcc: Mvcc,
  header: ResponseHeader,
  current: number,
  request: RangeRequest,
): RangeResponse {
  const interval = intervalOf(request)
  const asked = Number(request.revision ?? 0)
  const revision = asked > 0 ? asked : current
  const limit = Number(request.limit ?? 0)
  const count = mvcc.count(interval, revision)
  const answer = { header: at(header, current), count: String(count) }
  if (request.count_only === true) return { ...answer, kvs: [], more: false }
  const early = limit > 0 && !isSortedOrFiltered(request)
  let records = mvcc.read(interval, revision, early ? limit + 1 : null)
  records = records.filter((record) => passes(request, record))
  const compare = comparator(request)
  if (compare !== null) records = [...records].sort(compare)
  const more = limit > 0 && records.length > limit
  const kvs = (more ? records.slice(0, limit) : records).map((record) => {
    const kv = toWire(record)
    return request.keys_only === true ? { ...kv, value: noBytes } : kv
  })
  return { ...answer, kvs, more }
}

function isSortedOrFiltered(request: RangeRequest): boolean {
  return (
    (request.sort_order ?? 'None') !== 'None' ||
    [
      request.min_mod_revision,
      request.max_mod_revision,
      request.min_create_revision,
      request.max_create_revision,
    ].some((bound = '0') => bound !== '0')
  )
}

function passes(request: RangeRequest, record: StoredRecord): boolean {
  const within = (value: number, min = '0', max = '0'): boolean =>
    (min === '0' || value >= Number(min)) && (max === '0' || value <= Number(max))
  return (
    within(record.modRevision, request.min_mod_revision, request.max_mod_revision) &&
    within(record.createRevision, request.min_create_revision, request.max_create_revision)
  )
}

type Comparator = (a: StoredRecord, b: StoredRecord) => number

const byTarget: Readonly<Record<SortTarget, Comparator>> = {
  Key: (a, b) => Buffer.compare(a.key, b.key),
  Version: (a, b) => a.version - b.version,
  Create: (a, b) => a.createRevision - b.createRevision,
  Mod: (a, b) => a.modRevision - b.modRevision,
  Value: (a, b) => Buffer.compare(a.value, b.value),
}

/** Null: the order records come in, by key. */
function comparator(request: RangeRequest): Comparator | null {
  const { sort_order: order = 'None', sort_target: target = 'Key' } = request
  if (order === 'None' && target === 'Key') return null
  const compare = byTarget[target]
  return order === 'Descend' ? (a, b) => compare(b, a) : compare
}

function writePut(
  mvcc: Mvcc,
  writer: Writer,
  header: ResponseHeader,
  request: PutRequest,
): PutResponse {
  const { key = noBytes, value = noBytes, lease = '0' } = request
  const kept =
    request.ignore_value === true || request.ignore_lease === true ? mvcc.live(key) : null
  const event = writer.put(
    key,
    request.ignore_value === true ? (kept?.value ?? noBytes) : value,
    request.ignore_lease === true ? (kept?.lease ?? '0') : lease,
  )
  return {
    header: at(header, writer.revision),
    prev_kv: request.prev_kv === true && event.previous !== null ? toWire(event.previous) : null,
  }
}

function writeDelete(
  mvcc: Mvcc,
  writer: Writer,
  header: ResponseHeader,
  request: DeleteRangeRequest,
): DeleteRangeResponse {
  const records = mvcc.read(intervalOf(request), writer.revision, null)
  for (const record of records) writer.remove(record.key)
  return {
    header: at(header, writer.revision),
    deleted: String(records.length),
    prev_kvs: request.prev_kv === true ? records.map(toWire) : [],
  }
}

function holds(mvcc: Mvcc, comparison: Compare): boolean {
  const records = mvcc.read(intervalOf(comparison), mvcc.revision, null)
  if (records.length > 0) return records.every((record) => compares(comparison, record))
  return comparison.target === 'Value' ? false : compares(comparison, null)
}

function compares(comparison: Compare, record: StoredRecord | null): boolean {
  const difference = differenceOf(comparison, record)
  switch (comparison.result ?? 'Equal') {
    case 'Equal':
      return difference === 0
    case 'NotEqual':
      return difference !== 0
    case 'Greater':
      return difference > 0
    case 'Less':
      return difference < 0
  }
}

function differenceOf(comparison: Compare, record: StoredRecord | null): number {
  const minus = (stored: number | string, asked = '0'): number => {
    const [a, b] = [BigInt(stored), BigInt(asked)]
    return a < b ? -1 : a > b ? 1 : 0
  }
  switch (comparison.target ?? 'Version') {
    case 'Version':
      return minus(record?.version ?? 0, comparison.version)
    case 'Create':
      return minus(record?.createRevision ?? 0, comparison.create_revision)
    case 'Mod':
      return minus(record?.modRevision ?? 0, comparison.mod_revision)
    case 'Lease':
      return minus(record?.lease ?? 0, comparison.lease)
    case 'Value':
      return Buffer.compare(record?.value ?? noBytes, comparison.value ?? noBytes)
  }
}

function checkKey(request: KeyRange): void {
  if ((request.key ?? noBytes).length === 0) throw refusals.emptyKey()
}

function checkRange(request: RangeRequest): void {
  checkKey(request)
  const known = (value: string | undefined, ...of: readonly string[]): boolean =>
    value === undefined || of.includes(value)
  if (
    !known(request.sort_order, 'None', 'Ascend', 'Descend') ||
    !known(request.sort_target, ...Object.keys(byTarget))
  ) {
    throw refusals.badSort()
  }
}

function checkPut(request: PutRequest): void {
  checkKey(request)
  const { key = noBytes, value = noBytes } = request
  if (request.ignore_value === true && value.length > 0) throw refusals.valueProvided()
  if (request.ignore_lease === true && (request.lease ?? '0') !== '0') {
    throw refusals.leaseProvided()
  }
  if (key.length + value.length > mostBytes) throw refusals.tooLarge()
}

function checkLease(mvcc: Mvcc, { lease = '0' }: PutRequest): void {
  if (lease !== '0' && mvcc.lease(lease) === null) throw refusals.leaseNotFound()
}

/** What a put keeps must be there. */
function checkKept(mvcc: Mvcc, request: PutRequest): void {
  const keeps = request.ignore_value === true || request.ignore_lease === true
  if (keeps && mvcc.live(request.key ?? noBytes) === null) throw refusals.keyNotFound()
}

function checkRevision(mvcc: Mvcc, current: number, request: RangeRequest): void {
  const revision = Number(request.revision ?? 0)
  if (revision <= 0) return
  if (revision > current) throw refusals.futureRevision()
  if (revision < mvcc.compacted) throw refusals.compacted()
}

function checkTxn(
  compare: readonly Compare[],
  success: readonly RequestOp[],
  failure: readonly RequestOp[],
): void {
  if (Math.max(compare.length, success.length, failure.length) > mostOperations) {
    throw refusals.tooManyOperations()
  }
  for (const comparison of compare) checkKey(comparison)
  let bytes = 0
  for (const operation of [...success, ...failure]) {
    checkOperation(operation)
    bytes += operation.request_put?.value?.length ?? 0
  }
  if (bytes > mostBytes) throw refusals.tooLarge()
  checkOverlaps(success)
  checkOverlaps(failure)
}

function checkOperation(operation: RequestOp): void {
  if (operation.request_put) checkPut(operation.request_put)
  else if (operation.request_range) checkRange(operation.request_range)
  else if (operation.request_delete_range) checkKey(operation.request_delete_range)
  else if (operation.request_txn) throw refusals.nestedTxn()
  else throw refusals.keyNotFound()
}

/** A key may be put once in a branch, and not be deleted beside that. */
function checkOverlaps(operations: readonly RequestOp[]): void {
  const deletes: Interval[] = []
  for (const operation of operations) {
    if (operation.request_delete_range) deletes.push(intervalOf(operation.request_delete_range))
  }
  const puts = new Set<string>()
  for (const operation of operations) {
    if (!operation.request_put) continue
    const { key = noBytes } = operation.request_put
    const text = key.toString('latin1')
    if (puts.has(text) || deletes.some((interval) => contains(interval, key))) {
      throw refusals.duplicateKey()
    }
    puts.add(text)
  }
}
