/**
 * Owns the store as the mesh sees it: the few operations of an etcd v3 store that it uses, with
 * strings for keys and values. Types only. Every implementation passes `test/contract/key-value.ts`;
 * every failure is a MeshError whose code is one of `StoreErrorCode`.
 */

declare const brand: unique symbol

/** A lease's id, decimal. Ids use 63 bits, so they are never numbers. */
export type LeaseId = string & { readonly [brand]: 'LeaseId' }

/** The codes of every MeshError a store throws. */
export type StoreErrorCode =
  | 'store-unavailable' // no connection, or the server is going away
  | 'store-timeout' // no answer in time: a write may or may not have happened
  | 'store-cancelled' // the caller's signal aborted: same doubt
  | 'store-denied' // this identity may not do that
  | 'store-compacted' // the revision asked for is no longer kept
  | 'store-future-revision' // the revision asked for does not exist yet
  | 'store-lease-not-found' // the lease lapsed or was revoked
  | 'store-full' // no space on the store's disk, or its quota is used up
  | 'store-moved' // its content is in another store now; see `meshctl store migrate`
  | 'store-refused' // anything else the server refused

/** A key with its value. */
export interface Entry {
  readonly key: string
  readonly value: string
  readonly createRevision: number
  readonly modRevision: number
  /** Puts since the key was created; 1 for a new key. */
  readonly version: number
  /** The lease it lives under, or null. */
  readonly lease: LeaseId | null
}

/** Options of every call. */
export interface CallOptions {
  /** Gives up waiting; the call may still take effect. */
  readonly signal?: AbortSignal
  /** @default the implementation's own, 5000 */
  readonly timeoutMs?: number
}

/** Every key under a prefix as of one revision. */
export interface Listing {
  readonly revision: number
  /** In the order of their keys' bytes. */
  readonly entries: readonly Entry[]
}

/** One condition of a transaction. A key that does not exist has revision and version 0. */
export type Comparison =
  | { readonly kind: 'mod-revision'; readonly key: string; readonly equals: number }
  | { readonly kind: 'version'; readonly key: string; readonly equals: number }
  /** Never holds for a key that does not exist. */
  | { readonly kind: 'value'; readonly key: string; readonly equals: string }

/** One step of a transaction. A transaction may not write one key twice. */
export type Operation =
  | { readonly kind: 'get'; readonly key: string }
  | {
      readonly kind: 'put'
      readonly key: string
      readonly value: string
      readonly lease?: LeaseId
    }
  | { readonly kind: 'delete'; readonly key: string }

/** What a step answered. */
export type OperationResult =
  | { readonly kind: 'get'; readonly entry: Entry | null }
  | { readonly kind: 'put' }
  | { readonly kind: 'delete'; readonly deleted: boolean }

/** All comparisons hold: `success`; else `failure`. At most 128 of each. */
export interface Transaction {
  readonly compare: readonly Comparison[]
  readonly success: readonly Operation[]
  readonly failure?: readonly Operation[]
}

/** What a transaction answered. */
export interface TransactionResult {
  readonly revision: number
  readonly succeeded: boolean
  /** Of the branch that ran, step by step. */
  readonly results: readonly OperationResult[]
}

/** One change of one key. */
export type StoreEvent =
  | { readonly kind: 'put'; readonly entry: Entry }
  | { readonly kind: 'delete'; readonly key: string; readonly modRevision: number }

/** Receives a watch. Nothing is called after `onEnd` or `cancel`. */
export interface WatchSink {
  /** Changes in the order of their revisions; all changes of one revision come together. */
  onEvents(events: readonly StoreEvent[]): void
  /**
   * The server is alive, answering `requestProgress` of any watch of this client or of its own accord.
   * It does not answer while one of them is behind.
   */
  onProgress(): void
  /** The watch is over, exactly once and unasked; `store-compacted` asks for a new listing. */
  onEnd(error: Error): void
}

/** A watch that runs. */
export interface Watch {
  /** Asks for an `onProgress` now, so that a silent watch can be told from a quiet store. */
  requestProgress(): void
  /** Ends it. Idempotent. */
  cancel(): void
}

/** A lease just granted. */
export interface GrantedLease {
  readonly lease: LeaseId
  /** The server's choice, whole seconds. */
  readonly ttlMs: number
}

/** How the store is, as the server that answered sees it. */
export interface StoreStatus {
  /** Of the API that is served: etcd's. */
  readonly version: string
  readonly revision: number
  /** Bytes of the database, and those of them in use. */
  readonly bytes: number
  readonly bytesInUse: number
  /** Whether there is somebody who may decide; without, nothing can be written. */
  readonly hasLeader: boolean
  /** What the server says is wrong with it. */
  readonly problems: readonly string[]
}

/** One client of one store. */
export interface KeyValue {
  /** A key's entry, on request as it was at an earlier revision. */
  get(
    key: string,
    options?: CallOptions & { readonly revision?: number },
  ): Promise<{ readonly revision: number; readonly entry: Entry | null }>
  /** Lists in pages, all as of the revision of the first. */
  list(prefix: string, options?: CallOptions & { readonly revision?: number }): Promise<Listing>
  /**
   * Lists what is under several prefixes, none of which begins with another, as of one revision: in
   * one call where they hold little. The entries of each prefix come together.
   */
  listAll(prefixes: readonly string[], options?: CallOptions): Promise<Listing>
  /** How many keys there are under a prefix. */
  count(prefix: string, options?: CallOptions): Promise<number>
  put(
    key: string,
    value: string,
    options?: CallOptions & { readonly lease?: LeaseId },
  ): Promise<{ readonly revision: number }>
  delete(
    key: string,
    options?: CallOptions,
  ): Promise<{ readonly revision: number; readonly deleted: boolean }>
  transact(transaction: Transaction, options?: CallOptions): Promise<TransactionResult>
  /** Grants a lease of `ttlMs`, rounded up to whole seconds. */
  grantLease(ttlMs: number, options?: CallOptions): Promise<GrantedLease>
  /** Renews a lease once; throws `store-lease-not-found` when it is gone. */
  keepAlive(lease: LeaseId, options?: CallOptions): Promise<{ readonly ttlMs: number }>
  /** Ends a lease and deletes every key under it. */
  revokeLease(lease: LeaseId, options?: CallOptions): Promise<void>
  /**
   * Watches every key under a prefix from a revision on, that revision included. All watches of a client
   * share what carries them: the end of that ends each of them. A watch that the store refuses, or
   * cannot serve any more, ends alone.
   */
  watch(prefix: string, fromRevision: number, sink: WatchSink): Watch
  /** Forgets the history before a revision. */
  compact(revision: number, options?: CallOptions): Promise<void>
  status(options?: CallOptions): Promise<StoreStatus>
  /**
   * The whole store as of one moment, in pieces: its database, then the SHA-256 of that. Ends with
   * an error when it could not be had in full.
   *
   * @param options - `timeoutMs` is for the whole of it, by default ten minutes
   */
  snapshot(options?: { readonly timeoutMs?: number }): AsyncIterable<Buffer>
  /** Ends the client: its watches stop silently, its leases live on. Idempotent. */
  close(): void
}
