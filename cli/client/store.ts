/** Owns how `meshctl` reaches the store itself: with the operator's certificate, where the controller says. */

import { systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import type { ControllerClient } from '#shared/rpc/controller-client.ts'
import { readOperatorFile } from '#shared/rpc/operator-file.ts'
import { openEtcd } from '#shared/store/etcd.ts'
import type { KeyValue } from '#shared/store/key-value.ts'

/** Opens a client; the caller closes it. Throws MeshError. */
export async function openStoreAsOperator(
  parts: { readonly controller: ControllerClient },
  settings: { readonly credential: string },
): Promise<KeyValue> {
  const { store } = await parts.controller.call('StoreOperations', 'DescribeStore', {})
  const { chainPem, keyPem, bundlePem: rootPem } = await readOperatorFile(settings.credential)
  const { endpoints, serverName } = store
  const tls = { rootPem, chainPem, keyPem, serverName }
  return openEtcd(
    { clock: systemClock, random: systemRandom },
    { endpoints, ...(serverName === '' ? {} : { tls }) },
  )
}
