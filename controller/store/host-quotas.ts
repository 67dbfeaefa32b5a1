/**
 * Owns how much of the embedded store one host may take, so that none fills the disk of all: how many
 * keys, how large, how many leases. It counts what is stored and refuses in words that tell the host;
 * who may write which key at all is decided in `access.ts`.
 */

import type { HostName } from '#shared/model/names.ts'
import { parseMeshKey, parseTrustReportKey } from '#shared/store/keys.ts'
import type { PutRequest, RequestOp, TxnRequest } from '#shared/store/wire.ts'
import type { StoredEvent, StoredRecord } from './mvcc.ts'
import { refusals } from './refusals.ts'

/** Far beyond what an agent writes: a record is a few hundred bytes, a service one key a host. */
export const hostLimits = {
  valueBytes: 64 * 1024,
  keys: 4096,
  bytes: 8 * 1024 * 1024,
  leases: 100,
  leaseSeconds: 3600,
} as const

interface Usage {
  keys: number
  bytes: number
}

/** See the header. */
export class HostQuotas {
  readonly #usage = new Map<HostName, Usage>()

  /** Begins with what is stored. */
  constructor(live: Iterable<Pick<StoredRecord, 'key' | 'value'>>) {
    for (const record of live) this.#count(record, 1)
  }

  /** Takes in what a host's request, or anybody's, has changed. */
  changed(events: readonly StoredEvent[]): void {
    for (const { record, previous } of events) {
      if (previous !== null && previous.version > 0) this.#count(previous, -1)
      if (record.version > 0) this.#count(record, 1)
    }
  }

  /** @throws WireError where a host would have more than its share */
  checkPut(host: HostName, { key, value }: PutRequest, isNew: boolean): void {
    const bytes = value?.length ?? 0
    const { valueBytes, keys, bytes: mostBytes } = hostLimits
    if (bytes > valueBytes) throw refusals.overQuota(`a record of at most ${valueBytes} bytes`)
    const usage = this.#usage.get(host)
    if (usage === undefined) return
    if (isNew && usage.keys >= keys) throw refusals.overQuota(`at most ${keys} records`)
    if (usage.bytes + (key?.length ?? 0) + bytes > mostBytes) {
      throw refusals.overQuota(`records of at most ${mostBytes} bytes together`)
    }
  }

  /** The same for each put of both branches of a transaction. */
  checkTxn(host: HostName, request: TxnRequest, isNew: (key: Buffer) => boolean): void {
    for (const { request_put: put } of operationsOf(request)) {
      if (put) this.checkPut(host, put, isNew(put.key ?? Buffer.alloc(0)))
    }
  }

  /** @throws WireError where a host asks for one lease too many, or for one that lives too long */
  static checkLease(ttlSeconds: number, leases: number): void {
    if (leases >= hostLimits.leases) throw refusals.tooManyLeases()
    if (ttlSeconds > hostLimits.leaseSeconds) throw refusals.leaseTtlTooLarge()
  }

  #count({ key, value }: Pick<StoredRecord, 'key' | 'value'>, sign: 1 | -1): void {
    const host = ownerOf(key.toString('latin1'))
    if (host === null) return
    const usage = this.#usage.get(host) ?? { keys: 0, bytes: 0 }
    usage.keys += sign
    usage.bytes += sign * (key.length + value.length)
    if (usage.keys > 0) this.#usage.set(host, usage)
    else this.#usage.delete(host)
  }
}

function operationsOf({ success = [], failure = [] }: TxnRequest): readonly RequestOp[] {
  return [...success, ...failure]
}

/** Whose share a key counts to; null for those that controllers write. */
function ownerOf(key: string): HostName | null {
  const report = parseTrustReportKey(key)
  if (report !== null) return report
  const at = parseMeshKey(key)
  if (!at.ok) return null
  return at.value.kind === 'instance' || at.value.kind === 'presence' ? at.value.host : null
}
