/**
 * Owns the translation between `KeyValue` and etcd's messages, for whatever carries them: etcd3
 * over the network, or the embedded store's core called directly.
 */

import type { Clock } from '#shared/lifecycle/clock.ts'
import { storeError } from './failures.ts'
import type {
  CallOptions,
  Entry,
  GrantedLease,
  KeyValue,
  LeaseId,
  Listing,
  StoreStatus,
  Transaction,
  TransactionResult,
  Watch,
  WatchSink,
} from './key-value.ts'
import type { EtcdRpc, RpcOptions, WatchResponse, WireEvent } from './wire.ts'
import {
  cancellation,
  readEntry,
  readEvent,
  readResult,
  writeComparison,
  writeOperation,
} from './wire-messages.ts'
import { everyWatch, WireError } from './wire.ts'

/** Settings of a WireKeyValue. */
export interface WireKeyValueSettings {
  /** @default 5000 */
  readonly timeoutMs?: number
  /** Keys asked for at once by `list`. @default 1000 */
  readonly pageSize?: number
}

const statusCancelled = 1
const statusDeadline = 4
const statusUnavailable = 14
const zeroByte = Buffer.from([0])
/** Ranges of one transaction; together they answer a page at most. */
const rangesAtOnce = 50

/** See the header. */
export class WireKeyValue implements KeyValue {
  readonly #rpc: EtcdRpc
  readonly #clock: Clock
  readonly #timeoutMs: number
  readonly #pageSize: number

  constructor(
    parts: { readonly rpc: EtcdRpc; readonly clock: Clock },
    settings: WireKeyValueSettings,
  ) {
    this.#rpc = parts.rpc
    this.#clock = parts.clock
    this.#timeoutMs = settings.timeoutMs ?? 5000
    this.#pageSize = settings.pageSize ?? 1000
  }

  async get(
    key: string,
    options: CallOptions & { readonly revision?: number } = {},
  ): Promise<{ readonly revision: number; readonly entry: Entry | null }> {
    const revision = String(options.revision ?? 0)
    const response = await this.#call(`get ${key}`, options, (rpc, call) =>
      rpc.range({ key: Buffer.from(key), revision }, call),
    )
    const [found] = response.kvs
    return {
      revision: Number(response.header.revision),
      entry: found === undefined ? null : readEntry(found),
    }
  }

  async list(
    prefix: string,
    options: CallOptions & { readonly revision?: number } = {},
  ): Promise<Listing> {
    return this.#listOn(prefix, Buffer.from(prefix), options)
  }

  async listAll(prefixes: readonly string[], options: CallOptions = {}): Promise<Listing> {
    const entries: Entry[] = []
    let revision = 0
    for (let at = 0; at < prefixes.length; at += rangesAtOnce) {
      const some = prefixes.slice(at, at + rangesAtOnce)
      const limit = String(Math.ceil(this.#pageSize / some.length))
      const ranges = some.map((prefix) => ({
        request_range: {
          key: prefix === '' ? zeroByte : Buffer.from(prefix),
          range_end: endOfPrefix(prefix),
          limit,
          revision: String(revision),
        },
      }))
      const { header, responses } = await this.#call(
        `list ${some.length} prefixes from ${some[0]}`,
        options,
        (rpc, call) => rpc.txn({ success: ranges }, call),
      )
      if (revision === 0) revision = Number(header.revision)
      for (const [i, prefix] of some.entries()) {
        const page = responses[i]?.response_range
        for (const kv of page?.kvs ?? []) entries.push(readEntry(kv))
        const last = page?.kvs.at(-1)
        if (page?.more !== true || last === undefined) continue
        const rest = await this.#listOn(prefix, after(last.key), { ...options, revision })
        for (const entry of rest.entries) entries.push(entry)
      }
    }
    return { revision, entries }
  }

  /** Lists what is below a prefix, from a key on. */
  async #listOn(
    prefix: string,
    first: Buffer,
    options: CallOptions & { readonly revision?: number },
  ): Promise<Listing> {
    const entries: Entry[] = []
    const rangeEnd = endOfPrefix(prefix)
    let from = first
    let revision = options.revision ?? 0
    for (;;) {
      const key = from.length === 0 ? zeroByte : from
      const page = await this.#call(`list ${prefix}`, options, (rpc, call) =>
        rpc.range(
          {
            key,
            range_end: rangeEnd,
            limit: String(this.#pageSize),
            revision: String(revision),
          },
          call,
        ),
      )
      if (revision === 0) revision = Number(page.header.revision)
      for (const kv of page.kvs) entries.push(readEntry(kv))
      const last = page.kvs.at(-1)
      if (!page.more || last === undefined) return { revision, entries }
      from = after(last.key)
    }
  }

  async count(prefix: string, options: CallOptions = {}): Promise<number> {
    const response = await this.#call(`count ${prefix}`, options, (rpc, call) =>
      rpc.range(
        {
          key: prefix === '' ? zeroByte : Buffer.from(prefix),
          range_end: endOfPrefix(prefix),
          count_only: true,
        },
        call,
      ),
    )
    return Number(response.count)
  }

  async put(
    key: string,
    value: string,
    options: CallOptions & { readonly lease?: LeaseId } = {},
  ): Promise<{ readonly revision: number }> {
    const response = await this.#call(`put ${key}`, options, (rpc, call) =>
      rpc.put(
        { key: Buffer.from(key), value: Buffer.from(value), lease: options.lease ?? '0' },
        call,
      ),
    )
    return { revision: Number(response.header.revision) }
  }

  async delete(
    key: string,
    options: CallOptions = {},
  ): Promise<{ readonly revision: number; readonly deleted: boolean }> {
    const response = await this.#call(`delete ${key}`, options, (rpc, call) =>
      rpc.deleteRange({ key: Buffer.from(key) }, call),
    )
    return { revision: Number(response.header.revision), deleted: response.deleted !== '0' }
  }

  async transact(transaction: Transaction, options: CallOptions = {}): Promise<TransactionResult> {
    const { compare, success, failure = [] } = transaction
    const first = compare[0]?.key ?? success[0]?.key ?? failure[0]?.key ?? 'nothing'
    const response = await this.#call(`transaction on ${first}`, options, (rpc, call) =>
      rpc.txn(
        {
          compare: compare.map(writeComparison),
          success: success.map(writeOperation),
          failure: failure.map(writeOperation),
        },
        call,
      ),
    )
    const ran = response.succeeded ? success : failure
    return {
      revision: Number(response.header.revision),
      succeeded: response.succeeded,
      results: ran.map((operation, at) => readResult(operation, response.responses[at] ?? {})),
    }
  }

  async grantLease(ttlMs: number, options: CallOptions = {}): Promise<GrantedLease> {
    const response = await this.#call('grant a lease', options, (rpc, call) =>
      rpc.leaseGrant({ TTL: String(Math.ceil(ttlMs / 1000)), ID: '0' }, call),
    )
    return { lease: response.ID as LeaseId, ttlMs: Number(response.TTL) * 1000 }
  }

  async keepAlive(lease: LeaseId, options: CallOptions = {}): Promise<{ readonly ttlMs: number }> {
    const doing = `renew lease ${lease}`
    const response = await this.#call(doing, options, (rpc, call) =>
      rpc.leaseKeepAlive({ ID: lease }, call),
    )
    const seconds = Number(response.TTL)
    if (seconds <= 0) {
      throw storeError(doing, new WireError(5, 'etcdserver: requested lease not found'))
    }
    return { ttlMs: seconds * 1000 }
  }

  async revokeLease(lease: LeaseId, options: CallOptions = {}): Promise<void> {
    await this.#call(`revoke lease ${lease}`, options, (rpc, call) =>
      rpc.leaseRevoke({ ID: lease }, call),
    )
  }

  watch(prefix: string, fromRevision: number, sink: WatchSink): Watch {
    const doing = `watch ${prefix}`
    let over = false
    let parts: WireEvent[] = []
    const finish = (error: unknown): void => {
      if (over) return
      over = true
      watch.cancel()
      sink.onEnd(storeError(doing, error))
    }
    const onResponse = (response: WatchResponse): void => {
      if (over) return
      if (response.canceled) {
        finish(cancellation(response))
        return
      }
      if (response.created) return
      // Of all watches of a stream: it ends no answer that this one has a part of.
      if (response.watch_id === everyWatch) {
        sink.onProgress()
        return
      }
      parts = parts.length === 0 ? [...response.events] : parts.concat(response.events)
      if (response.fragment) return
      const events = parts
      parts = []
      if (events.length > 0) sink.onEvents(events.map(readEvent))
      else sink.onProgress()
    }
    const watch = this.#rpc.watch(
      {
        key: prefix === '' ? zeroByte : Buffer.from(prefix),
        range_end: endOfPrefix(prefix),
        start_revision: String(fromRevision),
        fragment: true,
      },
      { onResponse, onEnd: finish },
    )
    return {
      requestProgress: () => {
        if (!over) watch.requestProgress()
      },
      cancel: () => {
        if (over) return
        over = true
        watch.cancel()
      },
    }
  }

  async compact(revision: number, options: CallOptions = {}): Promise<void> {
    await this.#call(`compact to ${revision}`, options, (rpc, call) =>
      rpc.compact({ revision: String(revision), physical: true }, call),
    )
  }

  async status(options: CallOptions = {}): Promise<StoreStatus> {
    const response = await this.#call('ask for its status', options, (rpc, call) =>
      rpc.status(call),
    )
    return {
      version: response.version,
      revision: Number(response.header.revision),
      bytes: Number(response.dbSize),
      bytesInUse: Number(response.dbSizeInUse),
      hasLeader: response.leader !== '0',
      problems: response.errors,
    }
  }

  async *snapshot(options: { readonly timeoutMs?: number } = {}): AsyncIterable<Buffer> {
    const { timeoutMs = 600_000 } = options
    let left = '1'
    try {
      for await (const piece of this.#rpc.snapshot({ timeoutMs })) {
        left = piece.remaining_bytes
        yield piece.blob
      }
      if (left !== '0') throw new WireError(statusUnavailable, 'the snapshot ended early')
    } catch (error) {
      throw storeError('take a snapshot', error)
    }
  }

  close(): void {
    this.#rpc.close()
  }

  /** Bounds a call by its time and its caller's signal, whatever carries it; names it in errors. */
  async #call<T>(
    doing: string,
    options: CallOptions,
    run: (rpc: EtcdRpc, call: RpcOptions) => Promise<T>,
  ): Promise<T> {
    const { signal, timeoutMs = this.#timeoutMs } = options
    const bound = Promise.withResolvers<never>()
    const onAbort = (): void =>
      bound.reject(new WireError(statusCancelled, 'given up by the caller'))
    const timer = this.#clock.after(timeoutMs, () =>
      bound.reject(new WireError(statusDeadline, `no answer within ${timeoutMs} ms`)),
    )
    try {
      if (signal?.aborted === true) throw new WireError(statusCancelled, 'given up by the caller')
      signal?.addEventListener('abort', onAbort)
      return await Promise.race([run(this.#rpc, { timeoutMs }), bound.promise])
    } catch (error) {
      throw storeError(doing, error)
    } finally {
      timer.stop()
      signal?.removeEventListener('abort', onAbort)
    }
  }
}

/** The end of the range that holds every key with a prefix (etcd's `range_end`). */
export function endOfPrefix(prefix: string): Buffer {
  const end = Buffer.from(prefix)
  for (let at = end.length - 1; at >= 0; at--) {
    const byte = end.readUInt8(at)
    if (byte < 0xff) {
      end.writeUInt8(byte + 1, at)
      return end.subarray(0, at + 1)
    }
  }
  return zeroByte
}

/** The first key after another. */
function after(key: Buffer): Buffer {
  return Buffer.concat([key, zeroByte])
}
