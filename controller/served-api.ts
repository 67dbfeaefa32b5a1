/**
 * Composition of the controller's API: every service it serves, over what stands behind them. It opens no
 * port and holds nothing of its own but limits and tokens.
 */

import type { Clock, Random } from '#shared/lifecycle/clock.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { HostName } from '#shared/model/names.ts'
import type { BanList } from '#shared/pki/ban-list.ts'
import { addApiService, type ApiServiceParts } from '#shared/rpc/api-service.ts'
import type { MeshDescription } from '#shared/rpc/host-messages.ts'
import type { MtlsServer } from '#shared/rpc/mtls-server.ts'
import type { KeyValue } from '#shared/store/key-value.ts'
import { certificatesApi } from './api/certificates-api.ts'
import { controllersApi } from './api/controllers-api.ts'
import { enrolmentApi } from './api/enrolment-api.ts'
import { journalApi } from './api/journal-api.ts'
import { operationsApi } from './api/operations-api.ts'
import { policiesApi } from './api/policies-api.ts'
import { RateLimits } from './api/rate-limits.ts'
import { storeApi } from './api/store-api.ts'
import type { Authority } from './ca/authority.ts'
import type { HostLedger } from './ca/host-ledger.ts'
import type { Journal } from './ca/journal.ts'
import type { Rotator } from './ca/rotator.ts'
import type { TrustLedger } from './ca/trust-ledger.ts'
import type { ControllerConfig } from './config.ts'
import { Banning } from './enrolment/banning.ts'
import { Enrolment } from './enrolment/enrolment.ts'
import { JoinTokens } from './enrolment/join-tokens.ts'
import type { Membership } from './leader/membership.ts'
import type { EmbeddedStore } from './store/embedded-store.ts'
import type { ExternalStores } from './store/external-stores.ts'
import type { AccessInForce } from './store/host-access.ts'

/** What stands behind the API. */
export interface ServedApiParts {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly authority: Authority
  readonly ledger: TrustLedger
  readonly hosts: HostLedger
  readonly rotator: Rotator
  readonly store: KeyValue
  readonly embedded: EmbeddedStore | null
  readonly access: AccessInForce
  readonly external: ExternalStores
  readonly journal: Journal
  readonly membership: Membership
  readonly describe: () => MeshDescription
  /** Who is banned now. */
  readonly bans: () => BanList
  /** Told of every answer. */
  readonly onAnswer: NonNullable<ApiServiceParts['onAnswer']>
}

/** Renewals of a busy host are far below it; a runaway one is not. */
const hostLimit = { burst: 500, perSecond: 50 }
const enrolmentLimit = { burst: 50, perSecond: 1 }

/** Adds every service to a server. */
export function serveApi(
  server: MtlsServer,
  rooms: ServedApiParts,
  { name: controller, trustDomain }: Pick<ControllerConfig, 'name' | 'trustDomain'>,
): void {
  const { authority, ledger, hosts, rotator, store, access, describe, journal } = rooms
  const { clock, random, onAnswer } = rooms
  const logger = rooms.logger.child({ component: 'api' })
  const tokens = new JoinTokens(
    { store, hosts, clock, random },
    { rootHash: () => authority.rootHash },
  )
  const isBanned = (host: HostName): boolean => Object.hasOwn(ledger.bans.hosts, host)
  const enrolment = new Enrolment({ authority, tokens, access, isBanned, describe, logger })
  const parts: ApiServiceParts = {
    logger,
    identify: (call) => server.identify(call),
    refusalOf: (call) => {
      const svid = server.svidOf(call)
      return svid === null ? '' : rooms.bans().refusal(svid)
    },
    onAnswer,
  }
  const limits = new RateLimits({ clock }, hostLimit)
  const certificates = certificatesApi({ authority, hosts, access, limits, describe, logger })
  addApiService(server.identified, 'Certificates', certificates, parts)
  const banning = new Banning({ ledger, hosts, store, access, journal, clock, logger })
  const operations = { store, tokens, ledger, hosts, banning, rotator, access, logger }
  addApiService(server.identified, 'Operations', operationsApi(operations), parts)
  const policies = policiesApi({ ledger, clock, logger })
  addApiService(server.identified, 'Policies', policies, parts)
  const stores = storeApi({ ...rooms, isBanned, logger }, { controller, trustDomain })
  addApiService(server.identified, 'StoreOperations', stores, parts)
  addApiService(server.identified, 'Journal', journalApi({ journal }), parts)
  const several = { controller, isEmbedded: rooms.embedded !== null }
  const controllers = controllersApi({ ...rooms, logger }, several)
  addApiService(server.identified, 'Controllers', controllers, parts)
  if (server.anonymous !== null) {
    const limits = new RateLimits({ clock }, enrolmentLimit)
    addApiService(server.anonymous, 'Enrolment', enrolmentApi({ enrolment, limits }), parts)
  }
}
