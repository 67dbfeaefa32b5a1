/**
 * Owns which real addresses lead to which services: what manifests intercept, ports that are locked, and
 * explicit listeners. Who may claim an address that is not his own is decided here. Pure; a claim that
 * does not count is named with its reason.
 */

import type { AgentDownStance, InboundMode } from '#shared/model/manifest.ts'
import { isNoOutside, isPrivate, type ExternalView } from '#shared/model/external.ts'
import type { ServiceName } from '#shared/model/names.ts'
import { targetsOf } from '#shared/model/service-targets.ts'
import type { InstanceView, ServiceView, Snapshot } from '#shared/model/snapshot.ts'
import { targetName, type TargetName } from '#shared/model/target.ts'
import { parseInterceptTarget } from '#shared/schema/manifest-capture.ts'
import type { Endpoint } from './capture-state.ts'

/** A service of this host as far as it claims addresses. */
export interface ClaimingService {
  readonly service: ServiceName
  /** Where it listens at its main port; null for a pure caller. */
  readonly at: Endpoint | null
  /** Where else it listens: its other ports. @default nowhere */
  readonly also?: readonly Endpoint[]
  /** Whether the ports are the service's to lock: a local user's claim counts while they listen at all of them. */
  readonly holdsPort: boolean
  readonly inbound: InboundMode
  /** Whether its policy names callers. @default it lets anybody call */
  readonly isGuarded?: boolean
  readonly intercept: readonly string[]
  readonly onAgentDown: AgentDownStance
}

/** What claims depend on. */
export interface ClaimFacts {
  readonly locals: readonly ClaimingService[]
  readonly snapshot: Pick<Snapshot, 'services' | 'hosts' | 'host' | 'listeners' | 'external'>
  /** Where explicit listeners listen. */
  readonly explicitAddress: string
  /** The addresses a target stands for now; of a name that does not resolve, none. */
  readonly resolve: (target: string) => readonly Endpoint[]
  /** Whether an address is one of this host's own. @default none is */
  readonly isHere?: (address: string) => boolean
  readonly exempt: Exemptions
}

/** What is never captured. */
export interface Exemptions {
  readonly ports: ReadonlySet<number>
  /** Whether an address is left alone. */
  readonly hasAddress: (address: string) => boolean
}

/** An address of the world that leads to a service, and where it stands. */
export interface Claim extends Endpoint {
  readonly service: TargetName
  readonly said: string
  readonly denied: boolean
}

/** Everywhere a local service listens. */
export function placesOf({
  at,
  also = [],
}: Pick<ClaimingService, 'at' | 'also'>): readonly Endpoint[] {
  return at === null ? [] : [at, ...also]
}

/** Real addresses that lead to services: this host's manifests first, then what others publish. */
export function claimsOf(facts: ClaimFacts, problems: string[]): readonly Claim[] {
  const { snapshot, exempt } = facts
  const own = facts.locals.flatMap((local) => {
    const { service, inbound, holdsPort } = local
    const denied = local.onAgentDown === 'deny'
    const said = local.intercept.flatMap((target) => claims(facts, service, target, denied))
    // Whoever dials a locked service directly is led into the mesh, where it is known and asked.
    if (inbound !== 'strict' || !holdsPort) return said
    const targets = facts.snapshot.services
    const view = Object.hasOwn(targets, service) ? targets[service] : undefined
    const own = placesOf(local).map((at): Claim => {
      const meant = at === local.at ? undefined : targetAt(view, facts.snapshot.host, at.port)
      return { service: meant ?? service, ...at, said: `${at.address}:${at.port}`, denied: true }
    })
    return [...said, ...own]
  })
  const others = Object.values(snapshot.services).flatMap(({ name, instances }) =>
    instances.flatMap(({ host, intercept = [], onAgentDown = 'direct' }) => {
      if (host === snapshot.host) return []
      const at = Object.hasOwn(snapshot.hosts, host) ? snapshot.hosts[host] : undefined
      return intercept.flatMap((target) =>
        claims(facts, name, target, onAgentDown === 'deny').filter((claim) => {
          // A host may draw to itself only what would go to it anyway.
          const isOwn = claim.address === at?.address
          const holder = isOwn ? at.heldBy : undefined
          if (!isOwn) problems.push(`${target} of ${name} is not an address of its host ${host}`)
          else if (holder !== undefined)
            problems.push(`${target} of ${name} is the address of ${holder}, not of ${host}`)
          return isOwn && holder === undefined
        }),
      )
    }),
  )
  // Whoever dials an explicit listener is known by the kernel, too, rather than by nobody.
  const listeners = snapshot.listeners.map(({ service, portName = null, port, file }): Claim => {
    const at = { address: facts.explicitAddress, port }
    return {
      service: targetName(service, portName),
      ...at,
      said: `port ${port} of ${file}`,
      denied: false,
    }
  })
  const outside = (snapshot.external ?? []).flatMap((view) =>
    view.intercept.flatMap((target) => {
      const denied = view.onAgentDown === 'deny'
      return claims(facts, view.name, target, denied).filter(({ address }) => {
        const why = notDrawn(facts, view, target, address)
        if (why !== '') problems.push(`${target} of ${view.name} leads to ${address}, ${why}`)
        return why === ''
      })
    }),
  )
  return [...own, ...outside, ...listeners, ...others].filter(
    ({ address, port, said, service }) => {
      const why = exempt.ports.has(port)
        ? `port ${port} is never captured`
        : exempt.hasAddress(address)
          ? `${address} is excluded from capture`
          : ''
      if (why !== '') problems.push(`${said} of ${service}: ${why}`)
      return why === ''
    },
  )
}

/**
 * Why connections to an address are not led out of the mesh for a name's sake: whoever answers for the
 * name would draw to himself what was never his. An address that the manifest spells out is the
 * administrator's word. Empty where nothing is against it.
 */
function notDrawn(
  { isHere }: ClaimFacts,
  { endpoints }: ExternalView,
  target: string,
  address: string,
): string {
  if (parseInterceptTarget(target)?.isName !== true) return ''
  if (isNoOutside(address) || isHere?.(address) === true) return 'which is not outside this host'
  const isInside = endpoints.length > 0 && endpoints.every((one) => isPrivate(one.address))
  return isPrivate(address) && !isInside
    ? 'of a private network, and the service is outside it'
    : ''
}

/** The target of this host's instance that has a port; undefined where there is none. */
function targetAt(
  view: ServiceView | undefined,
  host: string,
  port: number,
): TargetName | undefined {
  if (view === undefined) return undefined
  const fits = (one: InstanceView): boolean => one.host === host && one.port === port
  return targetsOf(view).find(({ instances }) => instances.some(fits))?.target
}

function claims(
  facts: ClaimFacts,
  service: ServiceName,
  target: string,
  denied: boolean,
): readonly Claim[] {
  return facts.resolve(target).map((at) => ({ ...at, service, said: target, denied }))
}
