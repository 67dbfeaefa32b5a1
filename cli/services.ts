/** Owns `meshctl services`: every service this host can call, and where its instances are. */

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
      reports.flatMap(({ name, protocol, addresses, instances }) =>
        instances.length === 0
          ? [[name, protocol, addresses[0] ?? '-', 'no instance']]
          : instances.map(
              ({ host, id, port, weight, local, version = '', zone = '', tags = [] }) => [
                name,
                protocol,
                addresses[0] ?? '-',
                local ? `${host} (here)` : host,
                id,
                String(port),
                String(weight),
                version,
                zone,
                tags.join(','),
              ],
            ),
      ),
      'no services are known; drop a manifest into the manifest directory',
    ),
  )
  return exitCodes.ok
}
