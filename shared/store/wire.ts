/**
 * Owns the messages of etcd's v3 API as far as the mesh speaks it, and the calls that carry them.
 * Types and one error, shared by the etcd client and the embedded store, so that both sides of the
 * wire and the short cut without a wire are one code path. Integers of 64 bits are decimal texts.
 */

/** Header of every answer. */
export interface ResponseHeader {
  readonly cluster_id: string
  readonly member_id: string
  readonly revision: string
  readonly raft_term: string
}

/** A key with its value. */
export interface WireEntry {
  readonly key: Buffer
  readonly create_revision: string
  readonly mod_revision: string
  readonly version: string
  readonly value: Buffer
  readonly lease: string
}

/** `[key, range_end)`; no `range_end`: the key alone; a zero byte: everything from the key on. */
export interface KeyRange {
  readonly key?: Buffer
  readonly range_end?: Buffer
}

export type SortOrder = 'None' | 'Ascend' | 'Descend'
export type SortTarget = 'Key' | 'Version' | 'Create' | 'Mod' | 'Value'

export interface RangeRequest extends KeyRange {
  readonly limit?: string
  readonly revision?: string
  readonly sort_order?: SortOrder
  readonly sort_target?: SortTarget
  readonly serializable?: boolean
  readonly keys_only?: boolean
  readonly count_only?: boolean
  readonly min_mod_revision?: string
  readonly max_mod_revision?: string
  readonly min_create_revision?: string
  readonly max_create_revision?: string
}

export interface RangeResponse {
  readonly header: ResponseHeader
  readonly kvs: readonly WireEntry[]
  readonly more: boolean
  readonly count: string
}

export interface PutRequest {
  readonly key?: Buffer
  readonly value?: Buffer
  readonly lease?: string
  readonly prev_kv?: boolean
  readonly ignore_value?: boolean
  readonly ignore_lease?: boolean
}

export interface PutResponse {
  readonly header: ResponseHeader
  readonly prev_kv: WireEntry | null
}

export interface DeleteRangeRequest extends KeyRange {
  readonly prev_kv?: boolean
}

export interface DeleteRangeResponse {
  readonly header: ResponseHeader
  readonly deleted: string
  readonly prev_kvs: readonly WireEntry[]
}

export interface Compare extends KeyRange {
  readonly result?: 'Equal' | 'Greater' | 'Less' | 'NotEqual'
  readonly target?: 'Version' | 'Create' | 'Mod' | 'Value' | 'Lease'
  readonly version?: string
  readonly create_revision?: string
  readonly mod_revision?: string
  readonly value?: Buffer
  readonly lease?: string
}

/** One of its members is set. */
export interface RequestOp {
  readonly request_range?: RangeRequest | null
  readonly request_put?: PutRequest | null
  readonly request_delete_range?: DeleteRangeRequest | null
  readonly request_txn?: TxnRequest | null
}

/** One of its members is set. */
export interface ResponseOp {
  readonly response_range?: RangeResponse | null
  readonly response_put?: PutResponse | null
  readonly response_delete_range?: DeleteRangeResponse | null
}

export interface TxnRequest {
  readonly compare?: readonly Compare[]
  readonly success?: readonly RequestOp[]
  readonly failure?: readonly RequestOp[]
}

export interface TxnResponse {
  readonly header: ResponseHeader
  readonly succeeded: boolean
  readonly responses: readonly ResponseOp[]
}

export interface CompactionRequest {
  readonly revision?: string
  readonly physical?: boolean
}

/** An answer that is only a header. */
export interface HeaderResponse {
  readonly header: ResponseHeader
}

export interface WatchCreateRequest extends KeyRange {
  readonly start_revision?: string
  readonly progress_notify?: boolean
  readonly filters?: readonly ('Noput' | 'Nodelete')[]
  readonly prev_kv?: boolean
  readonly watch_id?: string
  readonly fragment?: boolean
}

/** The `watch_id` of an answer that concerns every watch of its stream, or one that was not made. */
export const everyWatch = '-1'

/** One of its members is set. */
export interface WatchRequest {
  readonly create_request?: WatchCreateRequest | null
  readonly cancel_request?: { readonly watch_id?: string } | null
  readonly progress_request?: Readonly<Record<string, never>> | null
}

export interface WireEvent {
  readonly type: 'Put' | 'Delete'
  readonly kv: WireEntry
  readonly prev_kv: WireEntry | null
}

export interface WatchResponse {
  readonly header: ResponseHeader
  readonly watch_id: string
  readonly created: boolean
  readonly canceled: boolean
  readonly compact_revision: string
  readonly cancel_reason: string
  readonly fragment: boolean
  readonly events: readonly WireEvent[]
}

export interface LeaseGrantRequest {
  /** Seconds. */
  readonly TTL?: string
  readonly ID?: string
}

export interface LeaseGrantResponse {
  readonly header: ResponseHeader
  readonly ID: string
  readonly TTL: string
  readonly error: string
}

export interface LeaseRequest {
  readonly ID?: string
}

export interface LeaseKeepAliveResponse {
  readonly header: ResponseHeader
  readonly ID: string
  /** Seconds; 0 when the lease is gone. */
  readonly TTL: string
}

export interface LeaseTimeToLiveRequest extends LeaseRequest {
  readonly keys?: boolean
}

export interface LeaseTimeToLiveResponse extends LeaseKeepAliveResponse {
  readonly grantedTTL: string
  readonly keys: readonly Buffer[]
}

export interface LeaseLeasesResponse {
  readonly header: ResponseHeader
  readonly leases: readonly { readonly ID: string }[]
}

export interface StatusResponse {
  readonly header: ResponseHeader
  readonly version: string
  readonly dbSize: string
  readonly leader: string
  readonly raftIndex: string
  readonly raftTerm: string
  readonly raftAppliedIndex: string
  /** What is wrong with the server, in its own words. */
  readonly errors: readonly string[]
  readonly dbSizeInUse: string
}

/** A piece of a snapshot; the last 32 bytes of the whole are the SHA-256 of what precedes them. */
export interface SnapshotResponse {
  readonly remaining_bytes: string
  readonly blob: Buffer
}

/** How long a call may take. */
export interface RpcOptions {
  readonly timeoutMs: number
}

/** Receives a raw watch. */
export interface RpcWatchSink {
  onResponse(response: WatchResponse): void
  /** The stream is over, exactly once, unless it was cancelled. */
  onEnd(error: unknown): void
}

/** A raw watch that runs. */
export interface RpcWatch {
  /** Has an answer without events come once the watch has been told everything. */
  requestProgress(): void
  cancel(): void
}

/** The calls, whatever carries them. They reject with `WireError`, or an error it can be read from. */
export interface EtcdRpc {
  range(request: RangeRequest, options: RpcOptions): Promise<RangeResponse>
  put(request: PutRequest, options: RpcOptions): Promise<PutResponse>
  deleteRange(request: DeleteRangeRequest, options: RpcOptions): Promise<DeleteRangeResponse>
  txn(request: TxnRequest, options: RpcOptions): Promise<TxnResponse>
  compact(request: CompactionRequest, options: RpcOptions): Promise<HeaderResponse>
  leaseGrant(request: LeaseGrantRequest, options: RpcOptions): Promise<LeaseGrantResponse>
  leaseRevoke(request: LeaseRequest, options: RpcOptions): Promise<HeaderResponse>
  /** Renews once. */
  leaseKeepAlive(request: LeaseRequest, options: RpcOptions): Promise<LeaseKeepAliveResponse>
  leaseTimeToLive(
    request: LeaseTimeToLiveRequest,
    options: RpcOptions,
  ): Promise<LeaseTimeToLiveResponse>
  /** Every lease there is. */
  leaseLeases(options: RpcOptions): Promise<LeaseLeasesResponse>
  status(options: RpcOptions): Promise<StatusResponse>
  /** The whole store as of one moment. Ends with an error when it could not be had in full. */
  snapshot(options: RpcOptions): AsyncIterable<SnapshotResponse>
  /** The sink is never called before `watch` has returned. */
  watch(request: WatchCreateRequest, sink: RpcWatchSink): RpcWatch
  close(): void
}

/** A refusal as gRPC carries it. */
export class WireError extends Error {
  override readonly name = 'WireError'
  /** gRPC status code. */
  readonly code: number

  constructor(code: number, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
  }
}
