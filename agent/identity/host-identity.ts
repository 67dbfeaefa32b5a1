/**
 * Owns who this host is, put together: what it trusts, the certificates it holds, the controller it
 * asks for them, and what it reports of all that. Each part has a file of its own; what others do
 * with a change is decided elsewhere.
 */

import type { CounterDump, CredentialMessage } from '#agent/workers/messages.ts'
import type { Clock, Random } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { HostName, Parsed, ServiceName } from '#shared/model/names.ts'
import { splitSpiffeId, type SpiffeIdParts } from '#shared/model/spiffe-id.ts'
import { openEtcd } from '#shared/store/etcd.ts'
import type { KeyValue } from '#shared/store/key-value.ts'
import { bansKey, bundleKey, policiesKey } from '#shared/store/keys.ts'
import { GrpcControllerPort } from './controller-port.ts'
import { waitsForHelp } from './identity-errors.ts'
import { IdentityFiles } from './identity-files.ts'
import { IdentityKeeper } from './identity-keeper.ts'
import { readJoinToken } from './join-token-file.ts'
import { TrustFile } from './trust-file.ts'
import { TrustKeeper } from './trust-keeper.ts'
import { TrustReporter, type TrustingWorker } from './trust-report.ts'

/** What an identity leans on. */
export interface HostIdentityParts {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  /** `WorkerHub` fits: what workers act on, and what they counted. */
  readonly workers: {
    readonly workers: readonly TrustingWorker[]
    collect(): Promise<CounterDump>
  }
  /** Takes this host's report of its trust, as text for the store. */
  readonly publish: (text: string) => void
}

/** Settings of an identity. */
export interface HostIdentitySettings {
  readonly host: HostName
  readonly stateDirectory: string
  readonly controllers: readonly [string, ...(readonly string[])]
  readonly joinTokenFile: string | null
}

/** See the header. */
export class HostIdentity {
  readonly trust: TrustKeeper
  readonly keeper: IdentityKeeper
  readonly controller: GrpcControllerPort
  readonly reporter: TrustReporter
  readonly #parts: HostIdentityParts
  /** Grows, so that no two sessions in a row begin with the same node of the store. */
  #turn: number
  #wanted: ReadonlySet<ServiceName> = new Set()
  /** Those that were valid when somebody asked which are others. */
  #shown: ReadonlySet<CredentialMessage> = new Set()

  constructor(parts: HostIdentityParts, settings: HostIdentitySettings) {
    const { clock, logger, workers, publish } = parts
    const { host, stateDirectory, controllers, joinTokenFile } = settings
    this.#parts = parts
    this.#turn = Math.floor(parts.random.fraction() * 1000)
    const file = new TrustFile({ logger }, { stateDirectory })
    this.trust = new TrustKeeper({ file, clock, logger })
    this.controller = new GrpcControllerPort(
      { clock, refusalOf: (svid) => this.trust.refusal(svid) },
      { addresses: controllers },
    )
    this.keeper = new IdentityKeeper(
      {
        ...parts,
        trust: this.trust,
        controller: this.controller,
        files: new IdentityFiles({ stateDirectory, host }),
        joinToken: () => readJoinToken(joinTokenFile),
      },
      { host },
    )
    this.reporter = new TrustReporter(
      {
        clock,
        trust: () => this.trust.trust,
        problem: () => this.trust.problem || (this.keeper.problems[0]?.message ?? ''),
        credentials: () => this.keeper.credentials,
        workers: () => workers.workers,
        collect: () => workers.collect(),
        publish,
      },
      { host },
    )
  }

  /** Why this host gets no identity, where only a person can change that; null otherwise. */
  get refusal(): MeshError | null {
    const refusal = this.keeper.problems.find(({ identity, retry }) => {
      return identity === 'host' && !retry
    })
    if (refusal === undefined || waitsForHelp.has(refusal.code)) return null
    const { message, code, hint } = refusal
    return new MeshError(message, { code, hint })
  }

  /** Whether a certificate of a service is at hand and valid. */
  isCertified(service: ServiceName): boolean {
    const now = this.#parts.clock.now()
    return (this.keeper.credentialOf(service)?.notAfterMs ?? 0) > now
  }

  /** The services whose valid certificate has come, ended, gone or become another since this was asked last. */
  renewed(): ReadonlySet<ServiceName> {
    const now = this.#parts.clock.now()
    const valid = new Set(this.keeper.credentials.filter(({ notAfterMs }) => notAfterMs > now))
    const changed = valid.symmetricDifference(this.#shown)
    this.#shown = valid
    return new Set(Array.from(changed, ({ id }) => splitSpiffeId(id)).flatMap(serviceIn))
  }

  /** Says which services need certificates. */
  want(services: ReadonlySet<ServiceName>): void {
    if (services.size === this.#wanted.size && services.isSubsetOf(this.#wanted)) return
    this.#wanted = new Set(services)
    this.keeper.want(services)
  }

  /** The store has these entries now; its trust records are judged. */
  offerRecords(entries: ReadonlyMap<string, string>): void {
    const records = [bundleKey, bansKey, policiesKey].flatMap((key) => {
      const value = entries.get(key)
      return value === undefined ? [] : [{ key, value }]
    })
    void this.trust.offer(records)
  }

  /** A client of the mesh's store that shows the certificate valid now. @throws MeshError */
  openStore(): KeyValue {
    const { mesh, host } = this.keeper
    if (mesh === null || host === null) {
      throw new MeshError('this host has no credential', { code: 'no-credential', retry: true })
    }
    const { endpoints, serverName } = mesh.store
    const { chainPem, keyPem } = host
    const rootPem = mesh.trustBundlePem
    return openEtcd(this.#parts, {
      endpoints,
      turn: this.#turn++,
      ...(serverName === '' ? {} : { tls: { rootPem, chainPem, keyPem, serverName } }),
    })
  }
}

function serviceIn(id: Parsed<SpiffeIdParts>): readonly ServiceName[] {
  return id.ok && id.value.kind === 'service' ? [id.value.name as ServiceName] : []
}
