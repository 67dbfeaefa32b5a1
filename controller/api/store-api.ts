/**
 * Owns what operators do with the store over the API: asking how it is, certificates for the nodes of
 * an etcd cluster, and its access control.
 */

import { isIP } from 'node:net'
import type { Logger } from '#shared/logging/logger.ts'
import type { HostName, ServiceName, TrustDomain } from '#shared/model/names.ts'
import { parseHostName } from '#shared/model/names.ts'
import { splitSpiffeId, storeDnsName, storePeerDnsName } from '#shared/model/spiffe-id.ts'
import { coversService } from '#shared/model/service-globs.ts'
import { checkCsr } from '#shared/pki/csr.ts'
import type { Answer, Caller, Handlers } from '#shared/rpc/api-service.ts'
import { refuse } from '#shared/rpc/api-service.ts'
import type { InitStoreReply, MeshDescription } from '#shared/rpc/mesh-api.ts'
import { decodeMeshEntry } from '#shared/schema/records.ts'
import { hostsPrefix } from '#shared/store/keys.ts'
import type { KeyValue } from '#shared/store/key-value.ts'
import type { Authority } from '#controller/ca/authority.ts'
import { commonNameOf } from '#controller/ca/certificates.ts'
import type { Journal } from '#controller/ca/journal.ts'
import type { ExternalStores } from '#controller/store/external-stores.ts'
import { isSecure } from '#controller/store/external-stores.ts'
import { EtcdHostAccess } from '#controller/store/host-access.ts'
import { operatorCaller } from './callers.ts'

/** What it leans on. */
export interface StoreApiParts {
  readonly store: KeyValue
  readonly describe: () => MeshDescription
  readonly authority: Authority
  readonly journal: Journal
  readonly external: ExternalStores
  readonly logger: Logger
}

/** Its settings. */
export interface StoreApiSettings {
  readonly controller: HostName
  readonly trustDomain: TrustDomain
}

const nodeTtlMs = 365 * 86_400_000
const maxAddresses = 32
const dnsName = /^(?=.{1,253}$)[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?$/i

/** The handlers of `StoreOperations`. */
export function storeApi(
  parts: StoreApiParts,
  settings: StoreApiSettings,
): Handlers<'StoreOperations'> {
  return {
    async DescribeStore(_request, caller) {
      const operator = operatorCaller(caller)
      if (!operator.ok) return refuse('denied', 'not-an-operator', operator.problem)
      const status = await parts.store.status()
      return { ok: true, value: { store: parts.describe().store, ...status } }
    },

    async IssueStoreNode(request, caller) {
      const operator = operatorCaller(caller)
      if (!operator.ok) return refuse('denied', 'not-an-operator', operator.problem)
      const node = parseHostName(request.node)
      if (!node.ok) return refuse('bad-request', 'bad-node-name', node.problem)
      const { addresses } = request
      const bad = addresses.find((address) => isIP(address) === 0 && !dnsName.test(address))
      if (bad !== undefined || addresses.length === 0 || addresses.length > maxAddresses) {
        const message = `1 to ${maxAddresses} DNS names or IP addresses of the node are needed, not ${JSON.stringify(bad ?? addresses.length)}`
        return refuse('bad-request', 'bad-addresses', message)
      }
      const [server, peer] = [checkCsr(request.serverCsr), checkCsr(request.peerCsr)]
      if (!server.ok) return refuse('bad-request', 'bad-csr', server.problem)
      if (!peer.ok) return refuse('bad-request', 'bad-csr', peer.problem)
      const order = {
        addresses: addresses.map(
          (value) => ({ type: isIP(value) === 0 ? 'dns' : 'ip', value }) as const,
        ),
        ttlMs: nodeTtlMs,
      }
      const { trustDomain } = settings
      const { authority } = parts
      const served = await authority.issueStoreNode(node.value, {
        ...order,
        dnsName: storeDnsName(trustDomain),
        publicKey: server.value,
      })
      const met = await authority.issueStoreNode(node.value, {
        ...order,
        dnsName: storePeerDnsName(trustDomain),
        publicKey: peer.value,
      })
      const audit = {
        audit: 'store-node-certified',
        node: node.value,
        addresses,
        by: operator.value,
      }
      parts.logger.info(audit, 'a node of a store has certificates')
      return {
        ok: true,
        value: {
          serverChainPem: served.chainPem,
          peerChainPem: met.chainPem,
          trustBundlePem: authority.bundlePem,
          peerName: storePeerDnsName(trustDomain),
          notAfterMs: Math.min(served.notAfterMs, met.notAfterMs),
        },
      }
    },

    async InitStore({ endpoints }, caller) {
      const operator = operatorCaller(caller)
      if (!operator.ok) return refuse('denied', 'not-an-operator', operator.problem)
      if (endpoints.length === 0 || !isSecure(endpoints)) {
        const message = 'access control needs an etcd that asks for certificates: https://host:port'
        return refuse('bad-request', 'bad-endpoints', message)
      }
      return initialise(parts, settings, endpoints, caller)
    },
  }
}

/** Everybody who holds a certificate goes on, before anybody is kept out. */
async function initialise(
  parts: StoreApiParts,
  settings: StoreApiSettings,
  endpoints: readonly string[],
  caller: Caller,
): Promise<Answer<InitStoreReply>> {
  const client = parts.external.open(endpoints)
  try {
    const access = new EtcdHostAccess({ auth: client.auth, logger: parts.logger })
    const admins = [commonNameOf('controller', settings.controller), ...operatorName(caller)]
    await access.initialise(admins)
    const certified = await certifiedServices(parts.journal)
    let [hosts, ranges] = [0, 0]
    for (const { key, value } of await hostRecords(parts.store)) {
      const entry = decodeMeshEntry(key, value)
      if (!entry.ok || entry.value.kind !== 'host') continue
      const { host, services } = entry.value.record
      await access.admitHost(host, services)
      hosts += 1
      for (const service of certified.get(host) ?? []) {
        if (!coversService(services, service)) continue
        await access.allowService(host, service)
        ranges += 1
      }
    }
    await access.enable()
    return { ok: true, value: { admins, hosts, ranges } }
  } finally {
    parts.external.close(client)
  }
}

/** A store that is not there yet knows no host. */
async function hostRecords(
  store: KeyValue,
): Promise<readonly { readonly key: string; readonly value: string }[]> {
  return (await store.list(hostsPrefix)).entries
}

/** Services for which hosts hold a certificate that has not ended. */
async function certifiedServices(
  journal: Journal,
): Promise<ReadonlyMap<string, ReadonlySet<ServiceName>>> {
  const services = new Map<string, Set<ServiceName>>()
  const { entries } = await journal.list({ host: '', ended: false, limit: Infinity })
  for (const { subject, host } of entries) {
    const id = splitSpiffeId(subject)
    if (!id.ok || id.value.kind !== 'service' || host === '') continue
    const known = services.get(host) ?? new Set()
    services.set(host, known.add(id.value.name as ServiceName))
  }
  return services
}

function operatorName({ id }: Caller): readonly string[] {
  const parts = id === null ? null : splitSpiffeId(id)
  return parts?.ok === true ? [commonNameOf('operator', parts.value.name)] : []
}
