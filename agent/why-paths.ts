/**
 * Composition of the paths that `why` tries: tunnels of their own, with the very code and credentials
 * of the data path, or straight to the instance when it is on this host. Loaded when first asked for.
 */

import { HeldBytes } from './http2/held-bytes.ts'
import { Credentials } from './identity/credentials.ts'
import type { Channel, Clock, Opener, Random } from './platform.ts'
import { ExternalDialler } from './relay/dial-external.ts'
import { outsideNameOf } from './relay/outside-name.ts'
import { LocalDialler } from './relay/dial-local.ts'
import { Tunnels } from './tunnel/tunnels.ts'
import type { Opened, Paths } from './why/walk.ts'
import type { CredentialMessage } from './workers/messages.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { Reason } from '#shared/model/reason.ts'
import type { Snapshot } from '#shared/model/snapshot.ts'
import { targetName } from '#shared/model/target.ts'
import type { Bans } from '#shared/model/trust.ts'

/** What paths are made with; the newest of everything. */
export interface PathParts {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly snapshot: Snapshot
  readonly credentials: readonly CredentialMessage[]
  readonly trust: { readonly bundlePem: string; readonly bans: Bans }
}

/** Bytes that may wait while a path is tried. */
const heldLimitBytes = 1_048_576
/** Longer than a worker waits, so that what is slow is not called away. */
const openTimeoutMs = 3000

/** Makes them. `source` is the address towards local instances. */
export function openPaths(parts: PathParts, settings: { readonly source: string }): Paths {
  const { clock, random, logger, snapshot, trust } = parts
  const { trustDomain, hosts, local, external = [] } = snapshot
  const credentials = new Credentials({ clock })
  credentials.setTrust(trust.bundlePem, trustDomain, trust.bans)
  credentials.setCredentials(parts.credentials)
  const held = new HeldBytes({ limitBytes: heldLimitBytes })
  const timeouts = { connectTimeoutMs: openTimeoutMs, openTimeoutMs }
  const tunnels = new Tunnels({ credentials, clock, random, logger, held }, timeouts)
  const dialler = new LocalDialler(
    { clock, random, held },
    { source: settings.source, timeoutMs: openTimeoutMs },
  )
  const outwards = new ExternalDialler({ clock, held })
  return {
    open: (caller, { target }, instance) => {
      const { service, portName } = target
      const { id, host: name, port } = instance
      const { opener, opened } = waiting()
      const here = local.find((one) => one.service === service && one.id === id)
      const outside = external.find((one) => one.name === service)
      const endpoint = outside?.endpoints.find((one) => one.id === id)
      if (outside !== undefined && endpoint !== undefined) {
        outwards.dial({ ...outside, endpoint }, opener)
        const over = outside.tls === null ? '' : ', over TLS'
        return opened(
          `${endpoint.address}:${port}${over}`,
          outsideNameOf(outside, endpoint).authority,
        )
      }
      const host = Object.hasOwn(hosts, name) ? hosts[name] : undefined
      if (instance.local && here !== undefined) {
        dialler.dial(here.address, port, opener)
        return opened(`${here.address}:${port}, on this host`)
      }
      if (host === undefined) {
        opener.onOpenFailed('tunnel-failed', `${name} has not said where its agent is`)
        return opened('')
      }
      const authority = `${id}.${targetName(service, portName)}.mesh:${port}`
      tunnels.openStream({ caller, service, host, authority, trustDomain }, opener)
      return opened(`mutual TLS to ${host.address}:${host.tunnelPort}`)
    },
    close: () => tunnels.stop(),
  }
}

function waiting(): {
  readonly opener: Opener
  readonly opened: (way: string, authority?: string) => Promise<Opened>
} {
  const { promise, resolve } = Promise.withResolvers<
    Channel | { readonly reason: Reason; readonly detail: string }
  >()
  const opener: Opener = {
    onOpen: (channel) => {
      channel.sink = { onData() {}, onEnd() {}, onDrain() {}, onClose() {} }
      // Bytes of a service that speaks first stay where they are.
      channel.pause()
      resolve(channel)
    },
    onOpenFailed: (reason, detail) => resolve({ reason, detail }),
  }
  const opened = async (way: string, authority = ''): Promise<Opened> => {
    const result = await promise
    return 'reason' in result
      ? { kind: 'refused', ...result }
      : { kind: 'open', channel: result, way, authority }
  }
  return { opener, opened }
}
