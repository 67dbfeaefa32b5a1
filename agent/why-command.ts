/** Composition of `why`: what its walk asks of this agent, and the paths it tries. */

import type { AgentReport } from './agent-report.ts'
import type { HostIdentity } from './identity/host-identity.ts'
import type { Clock, Random } from './platform.ts'
import { discovered, type Sought } from './why/discovered.ts'
import { walk, type Paths, type WalkAnswer } from './why/walk.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { ServiceName } from '#shared/model/names.ts'
import type { Snapshot } from '#shared/model/snapshot.ts'

/** What it is composed of. */
export interface WhyCommandParts {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly report: AgentReport
  /** Why a service of this host is not offered to others; empty where it is. */
  readonly withheld: (service: ServiceName) => string
  readonly identity: Pick<HostIdentity, 'keeper' | 'trust'>
  /** Null until the host knows its mesh. */
  readonly snapshot: () => Snapshot | null
  /** Looks for a service; see `App`. */
  readonly lookUp: (service: ServiceName) => Promise<Sought>
}

/** The command; `source` is the address towards local instances. */
export function whyCommand(
  parts: WhyCommandParts,
  settings: { readonly source: string },
): (input: unknown) => Promise<WalkAnswer> {
  const { clock, report, withheld } = parts
  const { keeper, trust: trusted } = parts.identity
  const paths = async (): Promise<Paths | null> => {
    // Tunnels are the workers' business; this process has no use for them but this one.
    const { openPaths } = await import('./why-paths.ts')
    const snapshot = parts.snapshot()
    const { trust } = trusted
    if (snapshot === null || trust === null) return null
    return openPaths({ ...parts, snapshot, trust, credentials: keeper.credentials }, settings)
  }
  const facts = () => ({
    status: report.status(),
    services: report.services(),
    external: report.external(),
    manifests: report.manifests(),
    certificates: report.certificates(),
    withheld,
  })
  const trustDomain = () => keeper.mesh?.trustDomain ?? null
  const explain = report.explain.bind(report)
  const discover = async (service: ServiceName) => {
    const snapshot = parts.snapshot()
    if (snapshot?.onDemand !== true) return null
    const wasKnown = Object.hasOwn(snapshot.services, service)
    return discovered(service, wasKnown, wasKnown ? null : await parts.lookUp(service))
  }
  return (input) => walk({ clock, facts, trustDomain, explain, discover, paths }, input)
}
