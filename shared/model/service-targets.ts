/**
 * Owns what a service's view says of its targets: the service itself, and each of its named ports as
 * if it were a service of its own. Pure.
 */

import type { PortName, ServiceName } from './names.ts'
import type { NamedPort, Protocol } from './records.ts'
import type { InstanceView, ServiceView } from './snapshot.ts'
import { targetName, type TargetName } from './target.ts'

/** A target as callers see it. */
export interface TargetView {
  readonly target: TargetName
  readonly service: ServiceName
  /** Null: the main port. */
  readonly portName: PortName | null
  readonly protocol: Protocol
  /** Those that may be called there; `port` is the target's. */
  readonly instances: readonly InstanceView[]
}

/** The targets of a service, the service itself first. */
export function targetsOf(view: ServiceView): readonly TargetView[] {
  const { name: service, protocol, ports = [], instances } = view
  const main: TargetView = { target: service, service, portName: null, protocol, instances }
  if (ports.length === 0) return [main]
  return [
    main,
    ...ports.map(({ name, protocol: carried }): TargetView => ({
      target: targetName(service, name),
      service,
      portName: name,
      protocol: carried,
      instances: instances.flatMap((instance) => {
        const named = instance.ports?.find((one) => one.name === name)
        if (named === undefined || named.down === true) return []
        return { ...instance, port: named.port }
      }),
    })),
  ]
}

/** The named ports of several instances together, in order of their names. */
export function portsTogether(
  all: readonly (readonly NamedPort[] | undefined)[],
): readonly Pick<NamedPort, 'name' | 'protocol'>[] {
  const byName = Map.groupBy(
    all.flatMap((ports) => ports ?? []),
    ({ name }) => name,
  )
  return [...byName]
    .map(([name, ports]) => ({ name, protocol: majorityOf(ports.map((one) => one.protocol)) }))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
}

/** While instances differ, as during a change of the manifest, the majority; bytes in a tie. */
export function majorityOf(protocols: readonly Protocol[]): Protocol {
  const http = protocols.filter((protocol) => protocol === 'http').length
  return http * 2 > protocols.length ? 'http' : 'tcp'
}
