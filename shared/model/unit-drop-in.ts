/**
 * Owns how systemd is told to have a unit take part in the mesh: a drop-in by which the unit starts once
 * what its service requires can be called, and its service leaves the mesh before it stops. Text only;
 * whoever may write it does.
 */

import type { ServiceName } from './names.ts'

/** Where an administrator's units and drop-ins lie. */
export const unitDirectory = '/etc/systemd/system'

/** Waits until what a service requires can be called. */
export const waitUnit = (service: ServiceName): string => `mesh-wait@${service}.service`

/** Puts a service into rotation when it starts, and takes it out when it stops. */
export const rotationUnit = (service: ServiceName): string => `mesh-rotation@${service}.service`

/** The drop-in's path below the directory; one for each service, since a unit may run several. */
export function unitDropInName(unit: string, service: ServiceName): string {
  return `${unit}.d/hostmesh-${service}.conf`
}

/** Its unit and service, by such a path; null where it is another file. */
export function readUnitDropInName(
  path: string,
): { readonly unit: string; readonly service: string } | null {
  const [, unit, service] =
    /^([^/]+[.]service)[.]d[/]hostmesh-([a-z0-9-]+)[.]conf$/.exec(path) ?? []
  return unit === undefined || service === undefined ? null : { unit, service }
}

/** The text. `strict`: the unit does not start at all where waiting was in vain. */
export function unitDropIn(service: ServiceName, { strict }: { readonly strict: boolean }): string {
  const [wait, rotation] = [waitUnit(service), rotationUnit(service)]
  return `# Written by "meshctl unit link ${service}"; "meshctl unit unlink ${service}" takes it away.
[Unit]
${strict ? 'Requires' : 'Wants'}=${wait}
After=${wait}
Wants=${rotation}
Before=${rotation}
PropagatesStopTo=${rotation}
`
}
