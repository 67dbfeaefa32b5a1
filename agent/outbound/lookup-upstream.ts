/**
 * Owns the stand-in for an instance while a call waits for its service to be looked for: to open it is
 * to look, and it always fails, so that the call goes on as it would after any failed attempt. It
 * carries nothing.
 */

import type { HostName, ServiceName } from '#shared/model/names.ts'
import { must, parseInstanceId } from '#shared/model/names.ts'
import type { Reason } from '#shared/model/reason.ts'
import type { Channel, Opener } from '#agent/platform.ts'
import type { Upstream } from '#agent/relay/upstream.ts'
import type { Found, Lookups } from './lookups.ts'

const none = must(parseInstanceId('0'))

/** What a call that waited in vain is told. */
const answers: Readonly<Record<Found, readonly [Reason, string]>> = {
  found: ['no-instances', 'no instance of it is in rotation'],
  unknown: ['unknown-service', 'no host has registered it'],
  away: [
    'not-discovered',
    'it is not in use on this host, and the store could not be asked for it',
  ],
  overloaded: ['not-discovered', 'too many services are looked for on this host, or in use'],
}

/** Reason and sentence of a call for what came of looking for its service. */
export function answerTo(found: Found, service: ServiceName): readonly [Reason, string] {
  const [reason, detail] = answers[found]
  return [reason, `service ${service}: ${detail}`]
}

/** See the header. */
export class LookupUpstream implements Upstream {
  readonly host: HostName | null = null
  readonly instance = none
  readonly mtls = false
  readonly #lookups: Pick<Lookups, 'look'>
  readonly #service: ServiceName

  constructor(parts: { readonly lookups: Pick<Lookups, 'look'> }, service: ServiceName) {
    this.#lookups = parts.lookups
    this.#service = service
  }

  takeIdle(): Channel | null {
    return null
  }

  open(opener: Opener): void {
    this.#lookups.look(this.#service, (found) => {
      opener.onOpenFailed(...answerTo(found, this.#service))
    })
  }

  release(): void {}
  started(): void {}
  finished(): void {}
}
