/**
 * Owns how the identity keeper reaches the controller: a narrow interface, and its real form over
 * gRPC. A join token is only ever sent to a server that proved to be a controller under the root
 * the token pins.
 */

import type { Clock } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { HostName, ServiceName } from '#shared/model/names.ts'
import { parseJoinToken } from '#shared/pki/join-token.ts'
import { ControllerClient } from '#shared/rpc/controller-client.ts'
import type { EnrolReply, Issued, MeshDescription } from '#shared/rpc/host-messages.ts'
import type { RefusalOf } from '#shared/rpc/peer-check.ts'
import { fetchPinnedRoot } from '#shared/rpc/pinned-root.ts'
import type { HostFile } from './identity-files.ts'

/** The controller, as the keeper needs it. Every failure is a MeshError. */
export interface ControllerPort {
  enrol(token: string, csr: Buffer, host: HostName, signal: AbortSignal): Promise<EnrolReply>
  /** A session with the host's credential; the caller closes it. */
  open(host: HostFile): ControllerSession
}

/** Calls with the host's credential. */
export interface ControllerSession {
  describeMesh(): Promise<MeshDescription>
  renewHost(csr: Buffer): Promise<Issued>
  issueService(service: ServiceName, csr: Buffer): Promise<Issued>
  /** Ends it, and every call on it. Idempotent. */
  close(): void
}

/** Failures that another controller may not have. */
const otherMayAnswer: ReadonlySet<string> = new Set([
  'controller-unavailable',
  'controller-timeout',
])

/**
 * See the header. One controller is asked for as long as it answers; then the next one of those that
 * are configured and those that the mesh was said to have.
 */
export class GrpcControllerPort implements ControllerPort {
  readonly #clock: Clock
  readonly #refusalOf: RefusalOf
  readonly #configured: readonly string[]
  #current: string

  /** Addresses read `host:port`; at least one. */
  constructor(
    parts: { readonly clock: Clock; readonly refusalOf?: RefusalOf },
    settings: { readonly addresses: readonly [string, ...(readonly string[])] },
  ) {
    this.#clock = parts.clock
    this.#refusalOf = parts.refusalOf ?? (() => '')
    this.#configured = settings.addresses
    this.#current = settings.addresses[0]
  }

  /** The controller that is asked now. */
  get current(): string {
    return this.#current
  }

  /** Asks every configured controller before it gives up: nobody waits for a host without a name. */
  async enrol(
    token: string,
    csr: Buffer,
    host: HostName,
    signal: AbortSignal,
  ): Promise<EnrolReply> {
    for (let left = this.#configured.length; ; left--) {
      try {
        return await this.#enrolAt(this.#current, token, csr, host, signal)
      } catch (error) {
        this.#failed(error, [])
        if (left <= 1 || signal.aborted || !mayHelp(error)) throw error
      }
    }
  }

  async #enrolAt(
    address: string,
    token: string,
    csr: Buffer,
    host: HostName,
    signal: AbortSignal,
  ): Promise<EnrolReply> {
    const parsed = parseJoinToken(token)
    if (!parsed.ok) throw new MeshError(parsed.problem, { code: 'token-malformed' })
    const bundlePem = await fetchPinnedRoot({ address, hash: parsed.value.rootHash, signal })
    const client = new ControllerClient(
      { clock: this.#clock, credential: { bundlePem }, expected: { kind: 'first-controller' } },
      { address },
    )
    const close = (): void => client.close()
    signal.addEventListener('abort', close)
    try {
      return await client.call('Enrolment', 'Enrol', { token: token.trim(), csr, host })
    } finally {
      signal.removeEventListener('abort', close)
      client.close()
    }
  }

  open(host: HostFile): ControllerSession {
    const { chainPem, keyPem } = host.credential
    const { trustBundlePem: bundlePem, trustDomain } = host.mesh
    const client = new ControllerClient(
      {
        clock: this.#clock,
        credential: { chainPem, keyPem, bundlePem },
        expected: { kind: 'controller', trustDomain },
        refusalOf: this.#refusalOf,
      },
      { address: this.#current },
    )
    const ask = async <T>(call: Promise<T>): Promise<T> => {
      try {
        return await call
      } catch (error) {
        this.#failed(error, host.mesh.controllers)
        throw error
      }
    }
    return {
      describeMesh: () => ask(client.call('Certificates', 'DescribeMesh', {})),
      renewHost: (csr) => ask(client.call('Certificates', 'RenewHost', { csr })),
      issueService: (service, csr) =>
        ask(client.call('Certificates', 'IssueService', { service, csr })),
      close: () => client.close(),
    }
  }

  /** The next one is asked from now on, if that may help. */
  #failed(error: unknown, learned: readonly string[]): void {
    if (!mayHelp(error)) return
    const known = [...new Set([...this.#configured, ...learned])]
    const at = known.indexOf(this.#current)
    this.#current = known[(at + 1) % known.length] ?? this.#current
  }
}

function mayHelp(error: unknown): boolean {
  return error instanceof MeshError && otherMayAnswer.has(error.code)
}
