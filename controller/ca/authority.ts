/**
 * Owns the certificate authority: opens or creates it, issues leaves, and replaces its issuing
 * certificate in time. Who may have what is not its business; each order is the caller's decision.
 */

import { X509Certificate } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import type { Clock, Random } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { HostName, ServiceName, TrustDomain } from '#shared/model/names.ts'
import {
  controllerDnsName,
  controllerId,
  hostDnsName,
  hostId,
  operatorId,
  serviceId,
} from '#shared/model/spiffe-id.ts'
import { readSvid } from '#shared/pki/svid.ts'
import { certificateHash, certificateToPem, joinPem } from '#shared/pki/trust.ts'
import type { Issued } from '#shared/rpc/mesh-api.ts'
import type { CaState } from './ca-state.ts'
import { readCaState, writeCaState, writeIssuing } from './ca-state.ts'
import type { LeafOrder } from './certificates.ts'
import { lifetimes, makeIssuing, makeLeaf, makeRoot } from './certificates.ts'

/** What an authority leans on. */
export interface AuthorityParts {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
}

/** Settings of an authority. */
export interface AuthoritySettings {
  /** Where its directory stands. */
  readonly stateDirectory: string
  /** Fixed when the CA is created; another one afterwards is refused. */
  readonly trustDomain: TrustDomain
  /** Lifetime of the leaves of hosts, services and controllers. */
  readonly leafTtlMs: number
}

/** See the header. */
export class Authority {
  readonly trustDomain: TrustDomain
  readonly #parts: AuthorityParts
  readonly #settings: AuthoritySettings
  #state: CaState

  private constructor(parts: AuthorityParts, settings: AuthoritySettings, state: CaState) {
    this.trustDomain = state.trustDomain
    this.#parts = parts
    this.#settings = settings
    this.#state = state
  }

  /** Opens the CA, made first where there is none. Throws MeshError. */
  static async open(parts: AuthorityParts, settings: AuthoritySettings): Promise<Authority> {
    const found = await readCaState(settings.stateDirectory)
    if (found !== null && found.trustDomain !== settings.trustDomain) {
      throw new MeshError(
        `the CA in ${settings.stateDirectory} is for trust domain "${found.trustDomain}", ` +
          `the configuration says "${settings.trustDomain}"`,
        {
          code: 'trust-domain-fixed',
          hint: 'a mesh keeps its trust domain for life: set it back, or use another state directory',
        },
      )
    }
    const state = found ?? (await create(parts, settings))
    return new Authority(parts, settings, state)
  }

  /** Every trusted root, PEM. */
  get bundlePem(): string {
    return certificateToPem(this.#rootDer)
  }

  /** SHA-256 of the root, which join tokens pin. */
  get rootHash(): Buffer {
    return certificateHash(this.#rootDer)
  }

  /** When the root and the issuing certificate end, milliseconds since the epoch. */
  get ends(): { readonly root: number; readonly issuing: number } {
    const { root, issuing } = this.#state
    return {
      root: root.certificate.notAfter.getTime(),
      issuing: issuing.certificate.notAfter.getTime(),
    }
  }

  issueHost(host: HostName, publicKey: KeyObject): Promise<Issued> {
    const id = hostId(this.trustDomain, host)
    const dnsName = hostDnsName(this.trustDomain, host)
    return this.#issue({
      id,
      dnsName,
      commonName: host,
      publicKey,
      ttlMs: this.#settings.leafTtlMs,
    })
  }

  /** A service's certificate names the host it is for. */
  issueService(service: ServiceName, host: HostName, publicKey: KeyObject): Promise<Issued> {
    const id = serviceId(this.trustDomain, service)
    const dnsName = hostDnsName(this.trustDomain, host)
    return this.#issue({ id, dnsName, publicKey, ttlMs: this.#settings.leafTtlMs })
  }

  issueController(name: HostName, publicKey: KeyObject): Promise<Issued> {
    const id = controllerId(this.trustDomain, name)
    const dnsName = controllerDnsName(this.trustDomain, name)
    return this.#issue({ id, dnsName, publicKey, ttlMs: this.#settings.leafTtlMs })
  }

  issueOperator(name: HostName, publicKey: KeyObject, ttlMs: number): Promise<Issued> {
    const id = operatorId(this.trustDomain, name)
    return this.#issue({ id, dnsName: `${name}.operator.${this.trustDomain}`, publicKey, ttlMs })
  }

  /** Replaces the issuing certificate once half its life is over. */
  async refreshIssuing(): Promise<void> {
    const { trustDomain, root, issuing } = this.#state
    const nowMs = this.#parts.clock.now()
    if (nowMs < issuing.certificate.notAfter.getTime() - lifetimes.issuingMs / 2) return
    const next = await makeIssuing({ random: this.#parts.random, root }, { trustDomain, nowMs })
    await writeIssuing(this.#settings.stateDirectory, next)
    this.#state = { ...this.#state, issuing: next }
    this.#parts.logger.info(
      { serial: next.certificate.serialNumber },
      'issuing certificate renewed',
    )
  }

  get #rootDer(): Buffer {
    return Buffer.from(this.#state.root.certificate.rawData)
  }

  async #issue(order: LeafOrder): Promise<Issued> {
    const { issuing } = this.#state
    const { random, clock } = this.#parts
    const leaf = await makeLeaf({ random, issuing }, order, clock.now())
    // What leaves this room is held to the rules every peer will hold it to.
    const svid = readSvid(leaf, this.trustDomain)
    if (!svid.ok) throw new TypeError(`issued an unusable certificate: ${svid.problem}`)
    if (!new X509Certificate(leaf).publicKey.equals(order.publicKey)) {
      throw new TypeError('issued a certificate for another key')
    }
    return {
      chainPem: joinPem([certificateToPem(leaf), issuing.certificate.toString('pem')]),
      spiffeId: svid.value.id,
      notAfterMs: svid.value.notAfterMs,
      serial: svid.value.serial,
    }
  }
}

async function create(parts: AuthorityParts, settings: AuthoritySettings): Promise<CaState> {
  const { random, clock, logger } = parts
  const { trustDomain, stateDirectory } = settings
  const nowMs = clock.now()
  const root = await makeRoot({ random }, { trustDomain, nowMs })
  const issuing = await makeIssuing({ random, root }, { trustDomain, nowMs })
  const state = { trustDomain, root, issuing }
  await writeCaState({ random }, stateDirectory, state)
  logger.info(
    { trustDomain, serial: root.certificate.serialNumber },
    'certificate authority created',
  )
  return state
}
