/**
 * Owns the controller's clients of etcd clusters: each proves itself with the controller's own
 * certificate, and connects anew whenever that was renewed.
 */

import type { Clock, Random } from '#shared/lifecycle/clock.ts'
import type { TrustDomain } from '#shared/model/names.ts'
import { storeDnsName } from '#shared/model/spiffe-id.ts'
import type { ServerCredential } from '#shared/rpc/mtls-server.ts'
import type { EtcdClient, StoreTls } from '#shared/store/etcd.ts'
import { openEtcdClient } from '#shared/store/etcd.ts'
import { WireError } from '#shared/store/wire.ts'

const statusUnavailable = 14

/** Whether a store at these URLs asks for certificates, and shows one. */
export function isSecure(endpoints: readonly string[]): boolean {
  return endpoints.every((endpoint) => endpoint.startsWith('https://'))
}

/** See the header. */
export class ExternalStores {
  readonly #parts: { readonly clock: Clock; readonly random: Random }
  readonly #trustDomain: TrustDomain
  readonly #open = new Set<EtcdClient>()
  #credential: ServerCredential | null = null

  constructor(
    parts: { readonly clock: Clock; readonly random: Random },
    settings: { readonly trustDomain: TrustDomain },
  ) {
    this.#parts = parts
    this.#trustDomain = settings.trustDomain
  }

  /** Takes the controller's certificate, at first and whenever it was renewed. */
  setCredential(credential: ServerCredential): void {
    this.#credential = credential
    for (const client of this.#open) client.renew()
  }

  /** Opens a client. Its calls fail until there is a credential, where one is needed. */
  open(endpoints: readonly string[]): EtcdClient {
    const secure = isSecure(endpoints) ? { tls: () => this.#tls() } : {}
    const client = openEtcdClient(this.#parts, { endpoints, ...secure })
    this.#open.add(client)
    return client
  }

  close(client: EtcdClient): void {
    this.#open.delete(client)
    client.store.close()
  }

  /** Ends every client that is still open. */
  stop(): void {
    for (const client of this.#open) this.close(client)
  }

  #tls(): StoreTls {
    if (this.#credential === null) {
      throw new WireError(statusUnavailable, 'this controller has no certificate yet')
    }
    const { bundlePem: rootPem, chainPem, keyPem } = this.#credential
    return { rootPem, chainPem, keyPem, serverName: storeDnsName(this.#trustDomain) }
  }
}
