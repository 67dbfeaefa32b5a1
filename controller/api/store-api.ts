/**
 * Owns what operators do with the store over the API: asking how it is, certificates for the nodes of
 * an etcd cluster, and its access control.
 */

import { isIP } from 'node:net'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { HostName, TrustDomain } from '#shared/model/names.ts'
import { parseHostName } from '#shared/model/names.ts'
import { splitSpiffeId, storeDnsName, storePeerDnsName } from '#shared/model/spiffe-id.ts'
import { checkCsr } from '#shared/pki/csr.ts'
import type { Caller, Handlers } from '#shared/rpc/api-service.ts'
import { refuse } from '#shared/rpc/api-service.ts'
import type { MeshDescription } from '#shared/rpc/host-messages.ts'
import type { InitStoreReply } from '#shared/rpc/store-messages.ts'
import type { KeyValue } from '#shared/store/key-value.ts'
import type { Authority } from '#controller/ca/authority.ts'
import { commonNameOf } from '#controller/ca/certificates.ts'
import type { HostLedger } from '#controller/ca/host-ledger.ts'
import type { Journal } from '#controller/ca/journal.ts'
import type { EmbeddedStore } from '#controller/store/embedded-store.ts'
import type { Membership } from '#controller/leader/membership.ts'
import { admitKnownHosts } from '#controller/store/admission.ts'
import type { ExternalStores } from '#controller/store/external-stores.ts'
import { isSecure } from '#controller/store/external-stores.ts'
import type { AccessInForce } from '#controller/store/host-access.ts'
import { EtcdHostAccess, noHostAccess } from '#controller/store/host-access.ts'
import { migrate, undoMigration } from '#controller/store/migration.ts'
import { parseStore } from '#controller/config.ts'
import { operatorCaller } from './callers.ts'

/** What it leans on. */
export interface StoreApiParts {
  readonly store: KeyValue
  /** The same store, where it is the embedded one. */
  readonly embedded: EmbeddedStore | null
  readonly access: AccessInForce
  readonly describe: () => MeshDescription
  readonly authority: Authority
  readonly hosts: HostLedger
  readonly journal: Journal
  readonly membership: Membership
  readonly external: ExternalStores
  readonly isBanned: (host: HostName) => boolean
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
      const movedTo = parts.embedded?.movedTo ?? ''
      const { store } = parts.describe()
      const warnings =
        parts.embedded === null ? await warningsOf(store.endpoints, parts.access) : []
      return { ok: true, value: { store, ...status, movedTo, warnings } }
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
      const client = parts.external.open(endpoints)
      try {
        const access = new EtcdHostAccess({ auth: client.auth, logger: parts.logger })
        return { ok: true, value: await initialise(parts, settings, access, caller) }
      } finally {
        parts.external.close(client)
      }
    },

    async MigrateStore({ endpoints, replace }, caller) {
      const operator = operatorCaller(caller)
      if (!operator.ok) return refuse('denied', 'not-an-operator', operator.problem)
      const { embedded, external, logger } = parts
      const to = endpoints.join(',')
      const choice = parseStore(to, false)
      if (!choice.ok) return refuse('bad-request', 'bad-endpoints', choice.problem)
      if (embedded === null || choice.value.kind === 'embedded') {
        return refuse(
          'bad-request',
          'not-embedded',
          'only the embedded store moves, and to an etcd',
        )
      }
      const client = external.open(endpoints)
      try {
        const target = client.store
        const moved = await migrate({ source: embedded, target, logger }, { to, replace })
        if (!isSecure(endpoints)) {
          external.close(client)
          return { ok: true, value: moved }
        }
        // Kept open: until the restart, certificates are handed out by a controller that looks here.
        const access = new EtcdHostAccess({ auth: client.auth, logger })
        parts.access.use(access)
        await initialise(parts, settings, access, caller)
        return { ok: true, value: moved }
      } catch (error) {
        external.close(client)
        if (embedded.movedTo !== '') await undoMigration({ source: embedded, logger })
        parts.access.use(noHostAccess)
        throw error
      }
    },

    async UndoMigration(_request, caller) {
      const operator = operatorCaller(caller)
      if (!operator.ok) return refuse('denied', 'not-an-operator', operator.problem)
      const { embedded, logger } = parts
      if (embedded === null) {
        return refuse('bad-request', 'not-embedded', 'this controller runs with an etcd')
      }
      const movedTo = await undoMigration({ source: embedded, logger })
      parts.access.use(noHostAccess)
      return { ok: true, value: { movedTo } }
    },
  }
}

/** What is wrong with an etcd that serves all the same. */
async function warningsOf(
  endpoints: readonly string[],
  access: Pick<AccessInForce, 'isEnforced'>,
): Promise<readonly string[]> {
  if (!isSecure(endpoints)) {
    const mend = 'serve it over https with certificates of the mesh (meshctl store certificate)'
    return [
      `whoever reaches it may change everything, as it is not asked for certificates; ${mend}`,
    ]
  }
  try {
    if (await access.isEnforced()) return []
    const mend = `meshctl store init --to ${endpoints.join(',')}`
    return [`access control is off: every host may change everything; turn it on with ${mend}`]
  } catch (error) {
    return [`it does not tell whether access control is on: ${messageOf(error)}`]
  }
}

/** Everybody who holds a certificate goes on, before anybody is kept out. */
async function initialise(
  parts: StoreApiParts,
  settings: StoreApiSettings,
  access: EtcdHostAccess,
  caller: Caller,
): Promise<InitStoreReply> {
  const names = [settings.controller, ...parts.membership.controllers.map(({ name }) => name)]
  const controllers = [...new Set(names)].map((name) => commonNameOf('controller', name))
  const admins = [...controllers, ...operatorName(caller)]
  await access.initialise(admins)
  const { hosts, journal } = parts
  const admitted = await admitKnownHosts(
    { hosts, journal, access },
    (host) => !parts.isBanned(host),
  )
  await access.enable()
  return { admins, ...admitted }
}

function operatorName({ id }: Caller): readonly string[] {
  const parts = id === null ? null : splitSpiffeId(id)
  return parts?.ok === true ? [commonNameOf('operator', parts.value.name)] : []
}
