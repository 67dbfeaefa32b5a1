/**
 * Owns what is asked of a controller, one call each: to enrol, to describe the mesh, and a certificate
 * for a key just made. Every answer is checked, held, then saved. When to ask is `identity-keeper.ts`.
 */

import type { Clock, Random } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { HostName, ServiceName } from '#shared/model/names.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import { hostId, serviceId } from '#shared/model/spiffe-id.ts'
import { makeCsr } from '#shared/pki/csr.ts'
import { generateKey, keyToPem } from '#shared/pki/keys.ts'
import type { Issued } from '#shared/rpc/host-messages.ts'
import type { ControllerContact } from './controller-contact.ts'
import type { ControllerPort, ControllerSession } from './controller-port.ts'
import type { HeldCredential } from './held-credential.ts'
import { holdCredential } from './held-credential.ts'
import type { Holdings } from './holdings.ts'
import { accepted } from './identity-errors.ts'
import type { HostFile, IdentityFiles } from './identity-files.ts'
import type { IdentitySlot } from './identity-slot.ts'
import { parseMesh, trustRecordsOf, type MeshFacts } from './mesh-facts.ts'
import { idOfToken } from './new-token.ts'
import type { TrustKeeper } from './trust-keeper.ts'

/** What issuance leans on. */
export interface IssuanceParts {
  readonly controller: Pick<ControllerPort, 'enrol'>
  readonly files: Pick<IdentityFiles, 'saveHost' | 'saveService'>
  readonly trust: Pick<TrustKeeper, 'anchor' | 'offer'>
  readonly holdings: Holdings
  readonly contact: Pick<ControllerContact, 'heard'>
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  /** Ends the call of a stop, whose failure is of no interest. */
  readonly signal: AbortSignal
  /** A controller has just said what the mesh is. */
  readonly onDescribed: () => void
  /** Something else is held than before. */
  readonly onIssued: () => void
}

/** See the header. Every method throws MeshError. */
export class Issuance {
  readonly #parts: IssuanceParts
  readonly #host: HostName

  constructor(parts: IssuanceParts, settings: { readonly host: HostName }) {
    this.#parts = parts
    this.#host = settings.host
  }

  /** Brings the host in with a token, or in again. */
  async enrol(token: string): Promise<void> {
    const { controller, contact, holdings, signal, trust } = this.#parts
    const key = await generateKey()
    const csr = await makeCsr(key)
    const reply = await controller.enrol(token, csr, this.#host, signal).catch((error: unknown) => {
      if (!signal.aborted) contact.heard(error)
      throw error
    })
    contact.heard(null)
    const mesh = accepted(parseMesh(reply.mesh))
    const id = hostId(mesh.trustDomain, this.#host)
    const credential = this.#accept(reply.certificate, keyToPem(key), id)
    await trust.anchor(mesh.trustDomain, mesh.trustBundlePem)
    await trust.offer(trustRecordsOf(reply.mesh))
    const file: HostFile = { credential, mesh, tokenId: idOfToken(token) }
    holdings.enrolled(file)
    holdings.dropForeign(mesh)
    this.#parts.onDescribed()
    await this.#parts.files.saveHost(file)
    const { serial } = credential
    this.#parts.logger.info({ id, serial, controller: mesh.controller }, 'host enrolled')
  }

  /** Asks what the mesh is now, and what to trust. */
  async describe(session: ControllerSession, known: MeshFacts): Promise<void> {
    const { holdings, files, trust } = this.#parts
    const described = await session.describeMesh()
    const mesh = accepted(parseMesh(described))
    if (mesh.trustDomain !== known.trustDomain) {
      throw new MeshError(
        `the controller now speaks for trust domain "${mesh.trustDomain}", not "${known.trustDomain}"`,
        { code: 'trust-domain-changed', hint: 'is the controller address right?' },
      )
    }
    this.#parts.onDescribed()
    await trust.offer(trustRecordsOf(described))
    if (JSON.stringify(holdings.trusted(mesh)) === JSON.stringify(known)) return
    holdings.describe(mesh)
    await files.saveHost(holdings.file)
  }

  /** Asks for the host's next certificate. */
  async renewHost(session: ControllerSession, mesh: MeshFacts): Promise<void> {
    const { holdings, files } = this.#parts
    const key = await generateKey()
    const issued = await session.renewHost(await makeCsr(key))
    const id = hostId(mesh.trustDomain, this.#host)
    this.#hold(holdings.host, this.#accept(issued, keyToPem(key), id))
    await files.saveHost(holdings.file)
  }

  /** Asks for a service's certificate, the first or the next. */
  async renewService(
    session: ControllerSession,
    mesh: MeshFacts,
    [service, slot]: readonly [ServiceName, IdentitySlot],
  ): Promise<void> {
    const key = await generateKey()
    const issued = await session.issueService(service, await makeCsr(key))
    const id = serviceId(mesh.trustDomain, service)
    const credential = this.#accept(issued, keyToPem(key), id)
    this.#hold(slot, credential)
    await this.#parts.files.saveService(service, credential)
  }

  #accept(issued: Issued, keyPem: string, expected: SpiffeId): HeldCredential {
    const held = accepted(holdCredential(this.#parts, issued.chainPem, keyPem, expected))
    return this.#parts.holdings.hurried(held)
  }

  #hold(slot: IdentitySlot, credential: HeldCredential): void {
    const { id, serial, notAfterMs } = credential
    slot.held = credential
    this.#parts.logger.info({ id, serial, notAfterMs }, 'certificate issued')
    this.#parts.onIssued()
  }
}
