/** Owns `meshctl names`: whether programs of this host find names of the mesh, and seeing to it. */

import type { AdminSocket } from './client/admin-socket.ts'
import type { ServiceUnits } from './client/service-units.ts'
import { exitCodes } from './exit-codes.ts'
import { elsewhere, mixed, namesState, setUpNames, type NamesSetupSettings } from './names-setup.ts'
import type { Printer } from './output/printer.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'

/** Collaborators. */
export interface NamesParts {
  readonly agent: Pick<AdminSocket, 'ask'>
  readonly units: Pick<ServiceUnits, 'restart'>
  readonly printer: Printer
}

/** Succeeds where they find them, or have no use for them. @throws MeshError `not-set-up` */
export async function names(
  { agent, units, printer }: NamesParts,
  settings: NamesSetupSettings & { readonly setUp: boolean; readonly isRoot: boolean },
): Promise<number> {
  const { capture } = await agent.ask('status')
  if (settings.setUp) {
    if (!settings.isRoot) {
      const hint = 'run it with sudo'
      throw new MeshError('names are not set up: this needs root', { code: 'not-set-up', hint })
    }
    await setUpNames({ units, note: (line) => printer.note(line) }, capture, settings)
  }
  const state = namesState(capture, settings)
  printer.result({ state: state.kind }, () => {
    switch (state.kind) {
      case 'off':
        return 'nothing is captured on this host, so names of the mesh lead nowhere'
      case 'told':
        return `programs find names as orders.mesh by systemd-resolved, which ${state.dropIn} tells`
      case 'mixed':
        return mixed(state.file)
      case 'untold':
        return 'systemd-resolved does not know of the mesh: meshctl names --set-up'
      case 'elsewhere':
        return elsewhere(state.resolvConf)
    }
  })
  return state.kind === 'told' || state.kind === 'off' ? exitCodes.ok : exitCodes.notInOrder
}
