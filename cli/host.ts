/** Owns `meshctl host`: which hosts have joined, and which services they may speak for. */

import type { ControllerClient } from '#shared/rpc/controller-client.ts'
import { exitCodes } from './exit-codes.ts'
import type { Printer } from './output/printer.ts'
import { table } from './output/table.ts'

/** Prints every enrolled host. */
export async function hostList(parts: {
  readonly controller: ControllerClient
  readonly printer: Printer
}): Promise<number> {
  const { hosts } = await parts.controller.call('Operations', 'ListHosts', {})
  parts.printer.result(hosts, () =>
    table(
      ['HOST', 'SERVICES', 'ENROLLED'],
      hosts.map(({ host, services, enrolledAt }) => [host, services.join(','), enrolledAt]),
      "no host has joined yet; to let one in: meshctl token create HOST --service '*'",
    ),
  )
  return exitCodes.ok
}
