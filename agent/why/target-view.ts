/** Owns what this agent knows of the target of a question: a service, or one of its ports. Pure. */

import type { InstanceReport, ServiceReport } from '#shared/model/admin-services.ts'
import type { Target } from '#shared/model/target.ts'
import { targetName } from '#shared/model/target.ts'

/** A target as callers of this host see it. */
export interface TargetReport {
  readonly name: string
  readonly protocol: string
  readonly addresses: readonly string[]
  /** `port` is the target's. */
  readonly instances: readonly InstanceReport[]
  /** It is outside the mesh. */
  readonly outside?: true
}

/** The target; null where nobody has such a service, or it no such port. */
export function targetView(
  services: readonly ServiceReport[],
  { service, portName }: Target,
): TargetReport | null {
  const view = services.find(({ name }) => name === service)
  if (view === undefined || portName === null) return view ?? null
  const port = view.ports.find(({ name }) => name === portName)
  if (port === undefined) return null
  const { protocol, addresses } = port
  const instances = view.instances.flatMap((instance) => {
    const named = instance.ports?.find(({ name }) => name === portName)
    return named === undefined || named.down === true ? [] : [{ ...instance, port: named.port }]
  })
  return { name: targetName(service, portName), protocol, addresses, instances }
}
