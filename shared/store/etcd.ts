/** Owns the opening of a real store: `KeyValue` on an etcd client, and its users where they matter. */

import type { Clock, Random } from '#shared/lifecycle/clock.ts'
import { EtcdAuth } from './etcd-auth.ts'
import type { EtcdSettings } from './etcd-rpc.ts'
import { Etcd3Rpc } from './etcd-rpc.ts'
import type { KeyValue } from './key-value.ts'
import { WireKeyValue } from './wire-key-value.ts'

export type { EtcdSettings, StoreTls } from './etcd-rpc.ts'

/** A client for a controller, which lives longer than its certificate. */
export interface EtcdClient {
  readonly store: KeyValue
  readonly auth: EtcdAuth
  /** Connects anew with what `tls` answers now. */
  renew(): void
}

/** Opens a client. Nothing is connected until the first call. */
export function openEtcd(
  parts: { readonly clock: Clock; readonly random: Random },
  settings: EtcdSettings,
): KeyValue {
  return openEtcdClient(parts, settings).store
}

/** The same, with what a controller needs beside it; closing the store closes all of it. */
export function openEtcdClient(
  parts: { readonly clock: Clock; readonly random: Random },
  settings: EtcdSettings,
): EtcdClient {
  const rpc = new Etcd3Rpc(parts, settings)
  return {
    store: new WireKeyValue({ rpc, clock: parts.clock }, settings),
    auth: new EtcdAuth({ rpc, random: parts.random }),
    renew: () => rpc.renew(),
  }
}
