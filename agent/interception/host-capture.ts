/**
 * Owns capture on this host, put together: who its services are, the kernel's rules, and the names
 * that lead to virtual IPs. Each part has a file of its own; nothing is decided here.
 */

import type { Clock } from '#shared/lifecycle/clock.ts'
import type { Logger } from '#shared/logging/logger.ts'
import { kernelCommands } from './commands.ts'
import { exemptionsOf, type Exclusions } from './exemptions.ts'
import { GrantsFile } from './grants-file.ts'
import { hasIpv6 } from './host-fitness.ts'
import { Interception, type InterceptionParts } from './interception.ts'
import { CaptureLifts } from './lifts.ts'
import { LocalServices } from './local-services.ts'
import type { Plan } from './plan.ts'

/** What capture leans on. */
export interface HostCaptureParts {
  readonly clock: Clock
  readonly logger: Logger
  /** `WorkerHub` fits. */
  readonly workers: InterceptionParts['workers']
  /** Told when it went from one state to another. */
  readonly onChange: () => void
}

/** Settings of capture. */
export interface HostCaptureSettings {
  /** Null: on where the host allows it. */
  readonly wish: 'on' | 'off' | null
  readonly firstPort: number
  readonly exclude: Exclusions & { readonly users: readonly string[] }
  /** Whether callers reach anything outside, or only what the mesh knows and `exclude` names. */
  readonly egress: 'allow-any' | 'registry-only'
  /** Ports of the mesh: connections to them that are led to a worker would go in circles. */
  readonly ownPorts: readonly number[]
  /** Where explicit listeners listen. */
  readonly explicitAddress: string
  readonly runDirectory: string
  readonly stateDirectory: string
  readonly agentUser: number
}

/** See the header. */
export class HostCapture {
  readonly locals: LocalServices
  readonly interception: Interception
  readonly lifts: CaptureLifts

  constructor(parts: HostCaptureParts, settings: HostCaptureSettings) {
    const { wish, firstPort, exclude, ownPorts, agentUser } = settings
    this.locals = new LocalServices(parts, { agentUser })
    this.lifts = new CaptureLifts(parts, { stateDirectory: settings.stateDirectory })
    this.interception = new Interception(
      {
        ...parts,
        commands: kernelCommands(),
        locals: this.locals,
        lifts: this.lifts,
        grants: new GrantsFile(parts, { stateDirectory: settings.stateDirectory }),
      },
      {
        wish,
        owner: settings.runDirectory,
        agentUser,
        hasIpv6: hasIpv6(),
        firstPort,
        explicitAddress: settings.explicitAddress,
        exempt: exemptionsOf(exclude, ownPorts),
        exemptUsers: exclude.users,
        ...(settings.egress === 'registry-only' ? { confines: exclude } : {}),
      },
    )
  }

  /** Whether this host captures, or may yet. */
  get isWanted(): boolean {
    return this.interception.status.kind !== 'off'
  }

  /** Whether an operator has switched it off. */
  get isLifted(): boolean {
    return this.interception.status.kind === 'lifted'
  }

  /** Whether an address is a service's virtual IP. */
  isVirtual(address: string): boolean {
    const { plan } = this.interception
    return plan !== null && Object.hasOwn(plan.view.services, address)
  }

  /** Names with their virtual IPs; null while nothing is captured. */
  get names(): Plan['names'] | null {
    const { status, plan } = this.interception
    return status.kind === 'on' ? (plan?.names ?? null) : null
  }
}
