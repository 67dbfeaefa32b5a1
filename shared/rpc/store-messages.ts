/** Owns the messages of `mesh.proto` by which operators look after the store. */

import type { StoreDescription } from './host-messages.ts'

export interface DescribeStoreRequest {}

/** Where the store is and how it fares. */
export interface StoreReport {
  readonly store: StoreDescription
  /** Of etcd's API. */
  readonly version: string
  readonly revision: number
  readonly bytes: number
  readonly bytesInUse: number
  readonly hasLeader: boolean
  /** What the store says is wrong with it. */
  readonly problems: readonly string[]
  /** Where its content has moved; empty where it has not. */
  readonly movedTo: string
  /** What is dangerous about it, and what to do. */
  readonly warnings: readonly string[]
}

export interface MigrateStoreRequest {
  readonly endpoints: readonly string[]
  /** Whether keys of a mesh that are there already are deleted first. */
  readonly replace: boolean
}

/** What was copied. */
export interface MigrateStoreReply {
  readonly keys: number
  /** Those that hosts own. */
  readonly leased: number
  /** How long those live without their host. */
  readonly bridgeMs: number
}

export interface UndoMigrationRequest {}

export interface UndoMigrationReply {
  /** Where it had moved. */
  readonly movedTo: string
}

export interface IssueStoreNodeRequest {
  readonly node: string
  /** DNS names and IP addresses at which the node is reached. */
  readonly addresses: readonly string[]
  /** DER. */
  readonly serverCsr: Buffer
  /** DER. */
  readonly peerCsr: Buffer
}

/** What a node of an etcd cluster serves with, and what it meets its peers with. */
export interface StoreNodeCertificates {
  /** Leaf first, PEM. */
  readonly serverChainPem: string
  readonly peerChainPem: string
  readonly trustBundlePem: string
  /** The name that etcd must demand of its peers. */
  readonly peerName: string
  /** Milliseconds since the epoch. */
  readonly notAfterMs: number
}

export interface InitStoreRequest {
  /** `https://host:port`. */
  readonly endpoints: readonly string[]
}

export interface InitStoreReply {
  /** Users that may do everything. */
  readonly admins: readonly string[]
  readonly hosts: number
  /** Exact ranges of services that hosts may write. */
  readonly ranges: number
}
