/** Owns the nftables table of an agent in a network namespace. */

import type { TableShape } from '#agent/interception/capture-state.ts'
import { kernelCommands } from '#agent/interception/commands.ts'
import { KernelTable } from '#agent/interception/kernel-table.ts'
import type { Namespace } from './namespace.ts'
import { silentLogger } from './silent-logger.ts'

/** The table of an agent as it is installed. */
export const tableShape: TableShape = {
  owner: '/run/mesh/agent',
  agentUser: 0,
  virtualRange6: 'fd12:3456:789a::/48',
  callerPorts: { first: 17000, last: 19999 },
  tellsUnits: true,
}

/** The table of a namespace; `more` makes it another agent's, or one without IPv6. */
export function tableIn(namespace: Namespace, more: Partial<TableShape> = {}): KernelTable {
  return new KernelTable(
    { commands: kernelCommands(namespace.enter), logger: silentLogger },
    { ...tableShape, ...more },
  )
}
