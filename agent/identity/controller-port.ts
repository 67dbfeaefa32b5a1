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
import type { EnrolReply, Issued, MeshDescription } from '#shared/rpc/mesh-api.ts'
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

/** See the header. */
export class GrpcControllerPort implements ControllerPort {
  readonly #clock: Clock
  readonly #address: string

  /** `address` reads `host:port`. */
  constructor(parts: { readonly clock: Clock }, settings: { readonly address: string }) {
    this.#clock = parts.clock
    this.#address = settings.address
  }

  async enrol(
    token: string,
    csr: Buffer,
    host: HostName,
    signal: AbortSignal,
  ): Promise<EnrolReply> {
    const parsed = parseJoinToken(token)
    if (!parsed.ok) throw new MeshError(parsed.problem, { code: 'token-malformed' })
    const address = this.#address
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
      },
      { address: this.#address },
    )
    return {
      describeMesh: () => client.call('Certificates', 'DescribeMesh', {}),
      renewHost: (csr) => client.call('Certificates', 'RenewHost', { csr }),
      issueService: (service, csr) => client.call('Certificates', 'IssueService', { service, csr }),
      close: () => client.close(),
    }
  }
}
