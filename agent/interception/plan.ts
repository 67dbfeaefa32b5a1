/**
 * Owns the decision what is captured on this host: from manifests, the view of the mesh and the
 * users of local services to rules for the kernel and words for the workers. Pure; whatever cannot
 * be captured is named with its reason and changes nothing else.
 */

import type { ExternalView } from '#shared/model/external.ts'
import type { InstanceId, ServiceName } from '#shared/model/names.ts'
import { targetsOf, type TargetView } from '#shared/model/service-targets.ts'
import { agentTarget, reservedNames, type TargetName } from '#shared/model/target.ts'
import type { CaptureView } from '#agent/workers/messages.ts'
import { unknownCaller } from './caller-ports.ts'
import { claimsOf, placesOf, type Claim, type ClaimFacts, type ClaimingService } from './claims.ts'
import type { UnitGroup } from './units.ts'
import type {
  CallerMark,
  CaptureState,
  DestinationRule,
  Endpoint,
  LockRule,
  StandIn,
} from './capture-state.ts'
import { displacedHosts, standInsOf, standsInAfar } from './stand-ins.ts'
import { virtualAddressAt, type VirtualAddress } from './virtual-addresses.ts'

/** A service of this host as interception sees it. */
export interface LocalService extends ClaimingService {
  /**
   * Who may answer for it and, unless it is known by a unit, whose connections are the service's; null
   * where nobody knows.
   */
  readonly user: number | null
  /** The unit it is known by. @default it is known by its user */
  readonly unit?: KnownUnit
}

/** A unit that is a service; its group is null while it does not run. */
export interface KnownUnit {
  readonly name: string
  readonly group: UnitGroup | null
}

/** Everything a plan depends on. */
export interface PlanFacts extends ClaimFacts {
  readonly locals: readonly LocalService[]
  /** Numbers of services' virtual IPs and of callers' ports; null where all are taken. */
  readonly addressOf: (service: string) => number | null
  readonly callerOf: (service: string) => number | null
  readonly virtualRange6: string | null
  readonly agentUser: number
  /** Whether this kernel tells connections of units apart. */
  readonly tellsUnits: boolean
  /** Whether this kernel can give connections that leave the host its own address. @default it can */
  readonly masquerades?: boolean
  /** Whether callers reach nothing outside but what the registry knows. @default they do */
  readonly isConfined?: boolean
  /** Users whose connections are left alone. */
  readonly exemptUsers: readonly number[]
  /** Services that bypass the mesh: their addresses lead nowhere else, and nothing is locked. */
  readonly bypassed: ReadonlySet<string>
}

/** A target with its virtual IPs and the ports it answers on there. */
export interface NamedAddress {
  readonly service: TargetName
  readonly ipv4: string
  readonly ipv6: string | null
  readonly ports: readonly number[]
}

/** A plan. Ports of callers are still indexes: which generation takes them is decided later. */
export interface Plan {
  readonly view: Omit<CaptureView, 'sequence'>
  readonly state: Omit<CaptureState, 'unknownPort' | 'callers'>
  readonly callers: readonly {
    readonly service: ServiceName
    /** Null while its unit does not run. */
    readonly who: CallerMark | null
    readonly index: number
  }[]
  /** Targets by name with their virtual IPs, for DNS. */
  readonly names: ReadonlyMap<string, NamedAddress>
  /** The target each captured address leads to, for people. */
  readonly serviceAt: ReadonlyMap<string, TargetName>
  readonly problems: readonly string[]
  /** What this kernel keeps from being done; empty where that is nothing. */
  readonly limit: string
}

const noMasquerade =
  'this kernel cannot masquerade (nft_masq): while the agent is gone, virtual IPs lead to no instance on another host'

/** The agent as programs of its host call it; where its API is, the worker knows. */
const agentItself: TargetView = {
  target: agentTarget,
  service: agentTarget as ServiceName,
  portName: null,
  protocol: 'http',
  instances: [],
}

const onlyPort = 'external' as InstanceId

/** See the header. */
export function planCapture(facts: PlanFacts): Plan {
  const problems: string[] = []
  const addresses = new Map<TargetName, VirtualAddress>()
  const services: Record<string, TargetName> = {}
  const names = new Map<string, NamedAddress>()
  const destinations = new Map<string, DestinationRule>()
  const serviceAt = new Map<string, TargetName>()
  const lead = (service: TargetName, at: Endpoint, virtual: string, denied = false): void => {
    const key = `${at.address} ${at.port}`
    if (destinations.has(key)) return
    destinations.set(key, { address: at.address, port: at.port, virtual, denied })
    serviceAt.set(key, service)
  }
  const standIns: StandIn[] = []
  const name = (view: TargetView): VirtualAddress | null => {
    const { target, instances } = view
    const index = facts.addressOf(target)
    if (index === null) {
      problems.push(`${target} has no virtual IP: all are taken`)
      return null
    }
    const address = virtualAddressAt(index, facts.virtualRange6)
    const ports = [...new Set([80, ...instances.map((one) => one.port)])]
    addresses.set(target, address)
    names.set(target, { service: target, ipv4: address.v4, ipv6: address.v6, ports })
    for (const virtual of virtualIps(address)) {
      services[virtual] = target
      for (const port of ports) lead(target, { address: virtual, port }, virtual)
    }
    standIns.push(...standInsOf(view, virtualIps(address), ports, facts))
    return address
  }
  name(agentItself)
  const { external = [] } = facts.snapshot
  for (const { name: service, protocol, port } of external) {
    // It answers on its port also while nobody knows where it is.
    const instances = [{ host: facts.snapshot.host, id: onlyPort, port, weight: 1 }]
    name({ target: service, service, portName: null, protocol, instances })
  }
  for (const view of Object.values(facts.snapshot.services)) {
    if (addresses.has(view.name)) {
      if (view.instances.length > 0)
        problems.push(
          `${view.name} is outside the mesh, says a manifest of this host, and a service`,
        )
      continue
    }
    if (Object.hasOwn(reservedNames, view.name)) {
      problems.push(`${view.name} is no name for a service: ${reservedNames[view.name]}`)
      continue
    }
    const [main, ...named] = targetsOf(view)
    const address = main === undefined ? null : name(main)
    for (const target of named) {
      const own = name(target)
      if (own === null || address === null) continue
      // The service's own address answers on the numbers of its named ports too.
      const numbers = [...new Set(target.instances.map(({ port }) => port))]
      standIns.push(...standInsOf(target, virtualIps(address), numbers, facts))
      for (const port of numbers) {
        lead(target.target, { address: address.v4, port }, own.v4)
        if (address.v6 !== null && own.v6 !== null)
          lead(target.target, { address: address.v6, port }, own.v6)
      }
    }
  }
  const displaced = displacedHosts(facts.snapshot.hosts)
  if (displaced !== '') problems.push(displaced)
  const claimed = claimsOf(facts, problems)
  for (const claim of claimed) {
    // A named port goes with its service.
    const owner = claim.service.slice(claim.service.indexOf('.') + 1)
    if (facts.bypassed.has(owner)) continue
    const virtual = virtualFor(claim.address, addresses.get(claim.service))
    const key = `${claim.address} ${claim.port}`
    const holder = serviceAt.get(key)
    if (holder !== undefined && holder !== claim.service) {
      problems.push(`${claim.said} of ${claim.service} already leads to ${holder}`)
    } else if (virtual !== null) lead(claim.service, claim, virtual, claim.denied)
  }
  const callers = callersOf(facts, []).flatMap(({ index, service }) => {
    const local = facts.locals.find((one) => one.service === service)
    return service === null || local === undefined ? [] : [{ service, who: markOf(local), index }]
  })
  return {
    view: {
      callers: callersOf(facts, problems),
      services,
      addresses: facts.virtualRange6 === null ? ['0.0.0.0'] : ['0.0.0.0', '::'],
    },
    names,
    state: {
      destinations: [...destinations.values()],
      dialled: [...facts.locals.flatMap(placesOf), ...wayOut(external, claimed)],
      answers: facts.locals.flatMap((local) =>
        local.user === null || !local.holdsPort
          ? []
          : placesOf(local).map((at) => ({ ...at, users: [...new Set([0, local.user ?? 0])] })),
      ),
      locks: locksOf(facts),
      exemptUsers: facts.exemptUsers,
      confined:
        facts.isConfined === true
          ? callers.flatMap(({ who, service }) => (who === null ? [] : [{ ...who, service }]))
          : [],
      registered: claimed.map(({ address, port }) => ({ address, port })),
      standIns,
    },
    callers,
    serviceAt,
    problems,
    limit: facts.masquerades === false && standsInAfar(facts.snapshot) ? noMasquerade : '',
  }
}

/**
 * Where the agent goes on behalf of callers of external services: their endpoints, and whatever leads to
 * them, or what is looked up at two times would be led back to the agent between.
 */
function wayOut(external: readonly ExternalView[], claimed: readonly Claim[]): readonly Endpoint[] {
  const names = new Set<string>(external.map(({ name }) => name))
  return [
    ...external.flatMap(({ endpoints, port }) =>
      endpoints.map(({ address }) => ({ address, port })),
    ),
    ...claimed
      .filter(({ service }) => names.has(service))
      .map(({ address, port }) => ({ address, port })),
  ]
}

function virtualIps({ v4, v6 }: VirtualAddress): readonly string[] {
  return v6 === null ? [v4] : [v4, v6]
}

/** How the kernel knows a service's connections; null where it cannot now. */
function markOf({ user, unit }: LocalService): CallerMark | null {
  if (unit === undefined) return user === null ? null : { kind: 'user', user }
  return unit.group === null ? null : { kind: 'unit', group: unit.group }
}

function callersOf(facts: PlanFacts, problems: string[]): CaptureView['callers'] {
  const known = facts.locals.flatMap(({ service, user, unit }) => {
    // The port of a unit is open before the unit runs: its first connection is its own.
    if (unit === undefined && user === null) return []
    if (unit !== undefined && !facts.tellsUnits) {
      problems.push(
        `${service} is not known by its unit ${unit.name}: this kernel does not tell units apart (nft_socket); give it a user of its own, and name that`,
      )
      return []
    }
    const index = facts.callerOf(service)
    if (index !== null) return [{ index, service }]
    problems.push(`${service} is not known as a caller: all ports of callers are taken`)
    return []
  })
  return [{ index: unknownCaller, service: null }, ...known]
}

function virtualFor(address: string, virtual: VirtualAddress | undefined): string | null {
  if (virtual === undefined) return null
  return address.includes(':') ? virtual.v6 : virtual.v4
}

/** Locks go by port, whatever address it is reached at: a service may listen on more than it says. */
function locksOf({ locals, agentUser, bypassed }: PlanFacts): readonly LockRule[] {
  /** A user that several services are of, or root, may not go around the lock of one of them. */
  const isAlone = ({ user, unit }: LocalService): boolean =>
    unit === undefined || (user !== 0 && locals.filter((one) => one.user === user).length === 1)
  const byPort = new Map<number, LockRule>()
  for (const local of locals) {
    const { service, user, holdsPort } = local
    const isLifted = local.inbound === 'strict' && bypassed.has(service)
    const inbound = isLifted ? 'permissive' : local.inbound
    if (inbound === 'off' || !holdsPort) continue
    for (const { port } of placesOf(local)) {
      const before = byPort.get(port)
      const users = [
        ...new Set([
          agentUser,
          ...(user === null || !isAlone(local) ? [] : [user]),
          ...(before?.users ?? []),
        ]),
      ]
      const mode = before?.mode === 'strict' ? 'strict' : inbound
      byPort.set(port, { port, users, mode })
    }
  }
  return [...byPort.values()]
}
