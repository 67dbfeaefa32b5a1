/**
 * Owns what the store lets hosts and controllers do where the store is an etcd of its own: users
 * known by their certificates, one role for each host, and in it one exact range for each service
 * the host was certified for. The embedded store needs none of it: it asks `access.ts`.
 */

import type { Logger } from '#shared/logging/logger.ts'
import type { HostName, ServiceName } from '#shared/model/names.ts'
import { parseServiceName } from '#shared/model/names.ts'
import { coversService } from '#shared/model/service-globs.ts'
import type { EtcdAuth } from '#shared/store/etcd-auth.ts'
import {
  instancesOf,
  instancesPrefix,
  meshPrefix,
  presenceKey,
  trustReportKey,
} from '#shared/store/keys.ts'
import { commonNameOf } from '#controller/ca/certificates.ts'

/** Told whom the mesh admits, before a certificate is handed out. Every call may be repeated. */
export interface HostAccess {
  /** A host that may speak for services the globs cover, and for no others any more. */
  admitHost(host: HostName, services: readonly string[]): Promise<void>
  allowService(host: HostName, service: ServiceName): Promise<void>
  /** A host that is to write, and to read, nothing any more. */
  removeHost(host: HostName): Promise<void>
  /** Another controller, which may do everything. */
  admitController(name: HostName): Promise<void>
  /** Whether the store holds everybody to what they may do. */
  isEnforced(): Promise<boolean>
}

/** For stores that look at certificates and records themselves, or at nothing. */
export const noHostAccess: HostAccess = {
  admitHost: async () => {},
  allowService: async () => {},
  removeHost: async () => {},
  admitController: async () => {},
  isEnforced: async () => true,
}

/** Passes on to the access in force, which changes when the store moves. */
export class AccessInForce implements HostAccess {
  #access: HostAccess

  constructor(access: HostAccess) {
    this.#access = access
  }

  use(access: HostAccess): void {
    this.#access = access
  }

  admitHost(host: HostName, services: readonly string[]): Promise<void> {
    return this.#access.admitHost(host, services)
  }

  allowService(host: HostName, service: ServiceName): Promise<void> {
    return this.#access.allowService(host, service)
  }

  removeHost(host: HostName): Promise<void> {
    return this.#access.removeHost(host)
  }

  admitController(name: HostName): Promise<void> {
    return this.#access.admitController(name)
  }

  isEnforced(): Promise<boolean> {
    return this.#access.isEnforced()
  }
}

/** etcd's own: it has every right, and must exist. No certificate carries this name alone. */
const superuser = 'root'
const reader = 'mesh-reader'

/** See the header. */
export class EtcdHostAccess implements HostAccess {
  readonly #auth: EtcdAuth
  readonly #logger: Logger
  /** What was granted by this process, so that a renewal costs etcd nothing. */
  readonly #granted = new Map<HostName, Set<ServiceName>>()

  constructor(parts: { readonly auth: EtcdAuth; readonly logger: Logger }) {
    this.#auth = parts.auth
    this.#logger = parts.logger
  }

  /** Makes what every mesh needs, lets `admins` do everything, and ends all other access. */
  async initialise(admins: readonly string[]): Promise<void> {
    await this.#auth.ensureRole(superuser)
    await this.#auth.ensureUser(superuser, superuser)
    for (const admin of admins) await this.#auth.ensureUser(admin, superuser)
    await this.#auth.ensureRole(reader)
    await this.#auth.grant(reader, { kind: 'read', key: meshPrefix, isPrefix: true })
  }

  /** From now on etcd asks everybody for a certificate it knows. */
  async enable(): Promise<void> {
    await this.#auth.enable()
    this.#logger.info({ audit: 'store-access-enabled' }, 'etcd holds everybody to their own keys')
  }

  admitController(name: HostName): Promise<void> {
    return this.#auth.ensureUser(commonNameOf('controller', name), superuser)
  }

  isEnforced(): Promise<boolean> {
    return this.#auth.isEnabled()
  }

  async admitHost(host: HostName, services: readonly string[]): Promise<void> {
    const user = commonNameOf('host', host)
    await this.#auth.ensureRole(user)
    const write = (key: string): Promise<void> =>
      this.#auth.grant(user, { kind: 'read-write', key, isPrefix: false })
    await write(presenceKey(host))
    await write(trustReportKey(host))
    await this.#auth.ensureUser(user, reader)
    await this.#auth.ensureUser(user, user)
    await this.#narrow(host, services)
  }

  async allowService(host: HostName, service: ServiceName): Promise<void> {
    const granted = this.#granted.get(host) ?? new Set()
    if (granted.has(service)) return
    const key = instancesOf(service, host)
    await this.#auth.grant(commonNameOf('host', host), { kind: 'read-write', key, isPrefix: true })
    this.#granted.set(host, granted.add(service))
    this.#logger.info({ audit: 'store-access-granted', host, service }, 'a host may write more')
  }

  async removeHost(host: HostName): Promise<void> {
    this.#granted.delete(host)
    await this.#auth.removeUser(commonNameOf('host', host))
    await this.#auth.removeRole(commonNameOf('host', host))
    this.#logger.info({ audit: 'store-access-removed', host }, 'a host may write nothing any more')
  }

  /** Takes back what an earlier record allowed. */
  async #narrow(host: HostName, services: readonly string[]): Promise<void> {
    const user = commonNameOf('host', host)
    this.#granted.delete(host)
    for (const key of (await this.#auth.writable(user)) ?? []) {
      if (!key.startsWith(instancesPrefix)) continue
      const service = parseServiceName(key.slice(instancesPrefix.length).split('/')[0] ?? '')
      if (service.ok && coversService(services, service.value)) continue
      await this.#auth.revoke(user, { key, isPrefix: true })
    }
  }
}
