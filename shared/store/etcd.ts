/** Owns the opening of a real store: `KeyValue` on an etcd client. */

import type { Clock, Random } from '#shared/lifecycle/clock.ts'
import type { EtcdSettings } from './etcd-rpc.ts'
import { Etcd3Rpc } from './etcd-rpc.ts'
import type { KeyValue } from './key-value.ts'
import { WireKeyValue } from './wire-key-value.ts'

export type { EtcdSettings, StoreTls } from './etcd-rpc.ts'

/** Opens a client. Nothing is connected until the first call. */
export function openEtcd(
  parts: { readonly clock: Clock; readonly random: Random },
  settings: EtcdSettings,
): KeyValue {
  return new WireKeyValue({ rpc: new Etcd3Rpc(parts, settings), clock: parts.clock }, settings)
}
