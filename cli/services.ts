/** Owns `meshctl services`: every service this host can call, and where its instances are. */

import type { InstanceReport } from '#shared/model/admin-services.ts'
import type { AdminSocket } from './client/admin-socket.ts'
import { exitCodes } from './exit-codes.ts'
import type { Printer } from './output/printer.ts'
import { table } from './output/table.ts'

/** Prints the services. */
export async function services(parts: {
  readonly agent: AdminSocket
  readonly printer: Printer
}): Promise<number> {
  const reports = await parts.agent.ask('services')
  parts.printer.result(reports, () =>
    table(
      [
        'SERVICE',
        'PROTOCOL',
        'ADDRESS',
        'HOST',
        'INSTANCE',
        'PORT',
        'WEIGHT',
        'VERSION',
        'ZONE',
        'TAGS',
      ],
      reports.flatMap(({ name, protocol, addresses, ports, instances, outside }) => [
        ...rowsOf(
          name,
          (instance) => spoken(protocol, instance),
          addresses,
          outside === true
            ? instances.map((one) => ({ ...one, local: false, host: 'outside' }))
            : instances,
        ),
        ...ports.flatMap((named) =>
          rowsOf(
            `${named.name}.${name}`,
            () => named.protocol,
            named.addresses,
            instances.flatMap((instance) => {
              const own = instance.ports?.find((one) => one.name === named.name)
              return own === undefined || own.down === true ? [] : [{ ...instance, port: own.port }]
            }),
          ),
        ),
      ]),
      'no services are known; drop a manifest into the manifest directory',
    ),
  )
  return exitCodes.ok
}

/** The rows of one target. */
function rowsOf(
  name: string,
  protocolOf: (instance: InstanceReport | null) => string,
  [address = '-']: readonly string[],
  instances: readonly InstanceReport[],
): readonly (readonly string[])[] {
  if (instances.length === 0) return [[name, protocolOf(null), address, 'no instance']]
  return instances.map((instance) => {
    const { host, id, port, weight, local, version = '', zone = '', tags = [] } = instance
    const where = local ? `${host} (here)` : host
    return [
      name,
      protocolOf(instance),
      address,
      where,
      id,
      String(port),
      String(weight),
      version,
      zone,
      tags.join(),
    ]
  })
}

/** How the main port speaks; what is more than bytes to people is bytes to the mesh. */
function spoken(protocol: string, instance: InstanceReport | null): string {
  return instance?.application === undefined ? protocol : `${instance.application} (bytes)`
}
