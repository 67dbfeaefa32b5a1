/**
 * Owns the banning of hosts and of single certificates: what an operator orders becomes a signed
 * record, and what a banned host had published goes. Who acts on it asks the ledger, or the store.
 */

import type { Clock } from '#shared/lifecycle/clock.ts'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { HostName } from '#shared/model/names.ts'
import type { Ban, Bans } from '#shared/model/trust.ts'
import { instancesPrefix, parseMeshKey, presenceKey, trustReportKey } from '#shared/store/keys.ts'
import type { KeyValue } from '#shared/store/key-value.ts'
import type { HostLedger } from '#controller/ca/host-ledger.ts'
import type { TrustLedger } from '#controller/ca/trust-ledger.ts'
import type { Journal } from '#controller/ca/journal.ts'
import { admitKnownHosts } from '#controller/store/admission.ts'
import type { HostAccess } from '#controller/store/host-access.ts'

/** What it leans on. */
export interface BanningParts {
  readonly ledger: TrustLedger
  readonly hosts: Pick<HostLedger, 'readAll'>
  readonly store: KeyValue
  /** What a store with an access control of its own lets hosts do. */
  readonly access: HostAccess
  readonly journal: Journal
  readonly clock: Clock
  readonly logger: Logger
}

/** Whom an order is about. */
export type Banned =
  | { readonly kind: 'host'; readonly host: HostName }
  /** Lower-case hexadecimal without leading zeros. */
  | { readonly kind: 'serial'; readonly serial: string }

/** Deletes go in transactions of this many keys. */
const deletesAtOnce = 100

/** See the header. */
export class Banning {
  readonly #parts: BanningParts

  constructor(parts: BanningParts) {
    this.#parts = parts
  }

  /** Bans; false where that was so already. Throws MeshError. */
  async ban(whom: Banned, reason: string, by: string): Promise<boolean> {
    const { ledger, clock, logger } = this.#parts
    const ban: Ban = { reason, by, at: new Date(clock.now()).toISOString() }
    const changed = await ledger.changeBans((bans) => withBan(bans, whom, ban))
    logger.warn({ audit: 'banned', ...whom, reason, by, changed }, 'a ban was ordered')
    if (whom.kind === 'host') await this.#shutOut(whom.host)
    return changed
  }

  /** Lifts a ban; false where there was none. Throws MeshError. */
  async unban(whom: Banned, by: string): Promise<boolean> {
    const { ledger, logger } = this.#parts
    const changed = await ledger.changeBans((bans) => withoutBan(bans, whom))
    logger.warn({ audit: 'unbanned', ...whom, by, changed }, 'a ban was lifted')
    if (whom.kind === 'host') await this.#letBackIn(whom.host)
    return changed
  }

  /** The store lets it do again what its record says and its certificates are for. Throws what the store throws. */
  async #letBackIn(host: HostName): Promise<void> {
    await admitKnownHosts(this.#parts, (known) => known === host)
  }

  /** Nobody is to call what the host has published; agents leave it aside in any case. */
  async #shutOut(host: HostName): Promise<void> {
    const { store, access, logger } = this.#parts
    try {
      await access.removeHost(host)
      const { entries } = await store.list(instancesPrefix)
      const published = entries.flatMap(({ key }) => {
        const at = parseMeshKey(key)
        return at.ok && at.value.kind === 'instance' && at.value.host === host ? [key] : []
      })
      const keys: string[] = [presenceKey(host), trustReportKey(host), ...published]
      for (let at = 0; at < keys.length; at += deletesAtOnce) {
        const success = keys
          .slice(at, at + deletesAtOnce)
          .map((key) => ({ kind: 'delete', key }) as const)
        await store.transact({ compare: [], success })
      }
    } catch (error) {
      const problem = messageOf(error)
      logger.warn({ host, problem }, 'the store still has, or lets in, a banned host')
    }
  }
}

function withBan(bans: Bans, whom: Banned, ban: Ban): Bans | null {
  switch (whom.kind) {
    case 'host':
      if (Object.hasOwn(bans.hosts, whom.host)) return null
      return { ...bans, hosts: { ...bans.hosts, [whom.host]: ban } }
    case 'serial':
      if (Object.hasOwn(bans.serials, whom.serial)) return null
      return { ...bans, serials: { ...bans.serials, [whom.serial]: ban } }
  }
}

function withoutBan(bans: Bans, whom: Banned): Bans | null {
  switch (whom.kind) {
    case 'host': {
      const { [whom.host]: found, ...hosts } = bans.hosts
      return found === undefined ? null : { ...bans, hosts }
    }
    case 'serial': {
      const { [whom.serial]: found, ...serials } = bans.serials
      return found === undefined ? null : { ...bans, serials }
    }
  }
}
