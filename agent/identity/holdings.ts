/**
 * Owns what this host holds: its own credential and one per local service, the mesh it belongs to and
 * the token it came in with. It asks nobody and saves nothing: that is `issuance.ts`.
 */

import type { CredentialMessage } from '#agent/workers/messages.ts'
import type { Clock, Random } from '#shared/lifecycle/clock.ts'
import type { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { HostName, ServiceName } from '#shared/model/names.ts'
import { rootOfChain } from '#shared/pki/root-name.ts'
import type { HeldCredential } from './held-credential.ts'
import type { HostFile, LoadedIdentity } from './identity-files.ts'
import { hostLost } from './identity-errors.ts'
import { IdentitySlot } from './identity-slot.ts'
import type { MeshFacts } from './mesh-facts.ts'
import { isValid } from './renewal.ts'
import type { TrustKeeper } from './trust-keeper.ts'

/** What holdings lean on. */
export interface HoldingsParts {
  readonly trust: Pick<TrustKeeper, 'trust'>
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
}

/** Longest wait for a controller that is away of a host that can do nothing without a certificate. */
const lastAwayMs = 20_000

/** See the header. */
export class Holdings {
  /** The host's own identity. */
  readonly host: IdentitySlot
  readonly #parts: HoldingsParts
  readonly #name: HostName
  readonly #services = new Map<ServiceName, IdentitySlot>()
  #wanted: ReadonlySet<ServiceName> = new Set()
  #credentials: readonly CredentialMessage[] = []
  #described: MeshFacts | null = null
  #enrolledWith: string | null = null
  /** Why the host's file could not be read. */
  #damage: MeshError | null = null

  constructor(parts: HoldingsParts, settings: { readonly host: HostName }) {
    this.#parts = parts
    this.#name = settings.host
    this.host = new IdentitySlot(parts, { identity: 'host', lastAwayMs })
  }

  /** Takes what was on the disk. */
  load({ host, services }: LoadedIdentity, hostPath: string): void {
    if (host?.ok === true) this.enrolled(host.value)
    else if (host !== null) {
      this.#damage = hostLost('host-file-damaged', `${hostPath}: ${host.problem}`)
    }
    for (const [service, held] of services) this.#slotOf(service).held = held
  }

  /** Which local services need a credential; the whole set, each time. */
  want(services: ReadonlySet<ServiceName>): void {
    this.#wanted = new Set(services)
    for (const service of services) this.#slotOf(service)
  }

  /** The services that need a credential, each with how it stands. */
  get wanted(): readonly (readonly [ServiceName, IdentitySlot])[] {
    return [...this.#services].filter(([service]) => this.#wanted.has(service))
  }

  /** The host's slot and those of all services it holds something for. */
  get slots(): readonly IdentitySlot[] {
    return [this.host, ...this.#services.values()]
  }

  /**
   * The host's credential and those of wanted services, ended ones included so that they are named.
   * The same array until one of them is another.
   */
  get credentials(): readonly CredentialMessage[] {
    const host = this.host.message
    const all = host === null ? [] : [host]
    for (const [service, { message }] of this.#services) {
      if (message !== null && this.#wanted.has(service)) all.push(message)
    }
    const before = this.#credentials
    const isSame = all.length === before.length && all.every((one, at) => one === before[at])
    if (!isSame) this.#credentials = all
    return this.#credentials
  }

  /** The credential of a wanted service; null where none is held. */
  credentialOf(service: ServiceName): CredentialMessage | null {
    return this.#wanted.has(service) ? (this.#services.get(service)?.message ?? null) : null
  }

  /** When the first certificate ends of those that are valid now; Infinity where none is. */
  endsAfter(now: number): number {
    const ends = this.slots.map(({ held }) => held?.notAfterMs ?? 0)
    return Math.min(...ends.filter((endMs) => endMs > now), Infinity)
  }

  /** The mesh as a controller described it last; null until the host has enrolled. */
  get described(): MeshFacts | null {
    return this.#described
  }

  /** What is known of the mesh; null until the host has enrolled. */
  get mesh(): MeshFacts | null {
    return this.#described === null ? null : this.trusted(this.#described)
  }

  /** What to trust is told by signed records alone, whatever a description says. */
  trusted(mesh: MeshFacts): MeshFacts {
    const { trust } = this.#parts.trust
    return trust?.trustDomain === mesh.trustDomain
      ? { ...mesh, trustBundlePem: trust.bundlePem }
      : mesh
  }

  /** Public id of the token this host enrolled with. */
  get enrolledWith(): string | null {
    return this.#enrolledWith
  }

  /** What is to be saved of the host. @throws MeshError where it has not enrolled */
  get file(): HostFile {
    const { held } = this.host
    if (held === null || this.#described === null) throw this.lost()
    const mesh = this.trusted(this.#described)
    return { credential: held, mesh, tokenId: this.#enrolledWith }
  }

  /** The host has enrolled, now or in an earlier run. */
  enrolled({ credential, mesh, tokenId }: HostFile): void {
    this.#described = mesh
    this.#enrolledWith = tokenId
    this.host.held = credential
  }

  /** A controller has described the mesh anew. */
  describe(mesh: MeshFacts): void {
    this.#described = this.trusted(mesh)
  }

  /** A credential that is under a root that is to go is renewed soon, at a moment of its own. */
  hurried(held: HeldCredential): HeldCredential {
    const { trust } = this.#parts.trust
    if (trust === null || trust.issuing === null) return held
    if (rootOfChain(held.chainPem, trust.roots) === trust.issuing) return held
    const { clock, random } = this.#parts
    const renewAtMs = clock.now() + trust.spreadMs * random.fraction()
    return { ...held, renewAtMs: Math.min(held.renewAtMs, renewAtMs) }
  }

  /** What is trusted has changed. */
  hurry(): void {
    for (const slot of this.slots) if (slot.held !== null) slot.held = this.hurried(slot.held)
  }

  /** Whoever enrols in another mesh has no use for certificates of the first. */
  dropForeign({ trustDomain }: MeshFacts): void {
    for (const slot of this.#services.values()) {
      if (slot.held?.id.startsWith(`spiffe://${trustDomain}/`) === false) slot.held = null
    }
  }

  /** Forgets ended credentials of services nobody wants any more; answers whose there were. */
  forgetEnded(now: number): readonly ServiceName[] {
    const ended = [...this.#services].filter(
      ([service, slot]) => !this.#wanted.has(service) && !isValid(slot, now),
    )
    for (const [service] of ended) this.#services.delete(service)
    return ended.flatMap(([service, { held }]) => (held === null ? [] : service))
  }

  /** Why this host cannot ask for anything but to enrol. */
  lost(): MeshError {
    const { held } = this.host
    if (this.#damage !== null && held === null) return this.#damage
    return held === null
      ? hostLost('not-enrolled', `host "${this.#name}" has not enrolled and has no join token`)
      : hostLost(
          'host-certificate-ended',
          `the certificate of host "${this.#name}" ended at ${new Date(held.notAfterMs).toISOString()}`,
        )
  }

  #slotOf(service: ServiceName): IdentitySlot {
    const slot = this.#services.get(service) ?? new IdentitySlot(this.#parts, { identity: service })
    this.#services.set(service, slot)
    return slot
  }
}
