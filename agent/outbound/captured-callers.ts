/**
 * Owns who is behind a captured connection: the kernel's rules have led each local user to a port of
 * its own, so the local port names the caller and the local address the target. Both are taken from
 * the newest view; whatever fits neither is nobody's.
 */

import type { CaptureView } from '#agent/workers/messages.ts'
import type { ServiceName, TrustDomain } from '#shared/model/names.ts'
import { serviceId, type SpiffeId } from '#shared/model/spiffe-id.ts'
import type { TargetName } from '#shared/model/target.ts'

/** The part of a socket that tells. */
export interface CapturedSocket {
  readonly localAddress?: string | undefined
  readonly localPort?: number | undefined
}

/** See the header. */
export class CapturedCallers {
  readonly #portOf: (index: number) => number
  #view: CaptureView = { sequence: 0, callers: [], services: {}, addresses: [] }
  #byPort = new Map<number, SpiffeId | null>()

  constructor(settings: { readonly portOf: (index: number) => number }) {
    this.#portOf = settings.portOf
  }

  get view(): CaptureView {
    return this.#view
  }

  /** Takes over a view. */
  apply(view: CaptureView, trustDomain: TrustDomain): void {
    this.#view = view
    this.#byPort = new Map(
      view.callers.map(({ index, service }) => [
        this.#portOf(index),
        service === null ? null : serviceId(trustDomain, service),
      ]),
    )
  }

  /** The identity of a known caller; null where the connection is not of one. */
  callerOf({ localPort = 0 }: CapturedSocket): SpiffeId | null {
    return this.#byPort.get(localPort) ?? null
  }

  /** The service that is calling; null where none is known to. */
  serviceOf({ localPort = 0 }: CapturedSocket): ServiceName | null {
    return (
      this.#view.callers.find(({ index }) => this.#portOf(index) === localPort)?.service ?? null
    )
  }

  /** The target a captured connection was meant for; null where it was meant for none. */
  targetOf({ localAddress = '' }: CapturedSocket): TargetName | null {
    const { services } = this.#view
    return Object.hasOwn(services, localAddress) ? (services[localAddress] ?? null) : null
  }
}
