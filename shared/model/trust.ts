/**
 * Owns what the mesh knows about trust: the trust bundle, the bans and the policies that hold on every
 * host, as controllers publish them and agents keep them, and what a host reports of them. Plain
 * readonly data; who signed it is no matter of this file.
 */

import type { HostName } from './names.ts'

/** Names a root: the first 16 hexadecimal digits of the SHA-256 of its certificate. */
export type RootName = string & { readonly __root: never }

/** Every trusted root, and which of them certificates are issued under now. */
export interface TrustBundle {
  /** PEM, one certificate each; the oldest first. */
  readonly roots: readonly string[]
  /** The root that certificates are to chain to: those under another one are renewed. */
  readonly issuing: RootName
  /** Over how long hosts spread those renewals, milliseconds. */
  readonly spreadMs: number
  /** How a rotation of the root stands, for controllers; absent while none is under way. */
  readonly rotation?: BundleRotation
}

/** How a rotation of the root stands. */
export interface BundleRotation {
  /** `forward` and `back`: everybody renews under the next root, or under the old one again. */
  readonly phase: 'distributing' | 'forward' | 'back'
  /** Milliseconds since the epoch. */
  readonly sinceMs: number
}

/** Why, when and by whom somebody was banned. */
export interface Ban {
  readonly reason: string
  /** SPIFFE id of the operator. */
  readonly by: string
  /** RFC 3339. */
  readonly at: string
}

/** Who is banned. */
export interface Bans {
  /** By host name: the host and every service certificate issued to it. */
  readonly hosts: Readonly<Record<string, Ban>>
  /** By serial, lower-case hexadecimal without leading zeros. */
  readonly serials: Readonly<Record<string, Ban>>
}

/** Nobody is banned. */
export const noBans: Bans = Object.freeze({ hosts: Object.freeze({}), serials: Object.freeze({}) })

/** A policy that holds on every host. */
export interface MeshPolicy {
  /** A policy file, as the operator wrote it. */
  readonly text: string
  /** SPIFFE id of the operator. */
  readonly by: string
  /** RFC 3339. */
  readonly at: string
}

/** The policies that hold on every host, by name. */
export type MeshPolicies = Readonly<Record<string, MeshPolicy>>

/** Epochs of what is in force; 0 before the first. */
export interface TrustEpochs {
  readonly bundle: number
  readonly bans: number
}

/** What a host says about its trust, under its lease. */
export interface TrustReport {
  readonly host: HostName
  /** What all of its workers act on. */
  readonly epochs: TrustEpochs
  /** Certificates it holds, by the root they chain to. */
  readonly held: Readonly<Record<string, number>>
  /** Tunnel handshakes so far, both ways, by the root the peer proved itself under. */
  readonly handshakes: Readonly<Record<string, number>>
  /** Why it lags behind; empty while it does not. */
  readonly problem: string
}
