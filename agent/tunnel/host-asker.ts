/**
 * Owns the question whether a host that the store has lost sight of is still there, asked as this
 * host. Only who proves to be that very host is: its address may have become somebody else's.
 */

import { Credentials } from '#agent/identity/credentials.ts'
import type { Clock } from '#agent/platform.ts'
import type { CredentialMessage } from '#agent/workers/messages.ts'
import type { ServiceName, TrustDomain } from '#shared/model/names.ts'
import type { HostView } from '#shared/model/snapshot.ts'
import { hostDnsName } from '#shared/model/spiffe-id.ts'
import type { Bans } from '#shared/model/trust.ts'
import { dialTunnel } from './dial.ts'

/** What asking leans on; both are asked each time, because both are renewed. */
export interface HostAskerParts {
  readonly clock: Clock
  readonly trust: () => {
    readonly bundlePem: string
    readonly trustDomain: TrustDomain
    readonly bans: Bans
  } | null
  /** This host's own credential. */
  readonly credential: () => CredentialMessage | null
}

/** How a host answered; `unknown`: it could not be asked. */
export type HostAnswer = 'proven' | 'silent' | 'unknown'

const timeoutMs = 1000

/** See the header. */
export class HostAsker {
  readonly #parts: HostAskerParts
  readonly #credentials: Credentials

  constructor(parts: HostAskerParts) {
    this.#parts = parts
    this.#credentials = new Credentials(parts)
  }

  /**
   * Asks for a service the host has offered; `done` is called exactly once and never before this
   * returns, unless what this answers was called before.
   */
  ask(host: HostView, service: ServiceName, done: (answer: HostAnswer) => void): () => void {
    const { clock } = this.#parts
    const trust = this.#parts.trust()
    const credential = this.#parts.credential()
    if (trust === null || credential === null) {
      const timer = clock.after(0, () => done('unknown'))
      return () => timer.stop()
    }
    const { bundlePem, trustDomain, bans } = trust
    this.#credentials.setTrust(bundlePem, trustDomain, bans)
    this.#credentials.setCredentials([credential])
    const name = hostDnsName(trustDomain, host.name)
    return dialTunnel(
      { credentials: this.#credentials, clock },
      { caller: credential.id, service, host, trustDomain },
      { timeoutMs },
      (result) => {
        if (result.kind === 'ready') {
          result.socket.on('error', () => {}).destroy()
          done(result.peer.dnsNames.includes(name) ? 'proven' : 'silent')
        } else done(result.reason === 'no-credential' ? 'unknown' : 'silent')
      },
    )
  }
}
