/** Declares the verbs that set a host up. */

import type { Command } from 'commander'
import { systemdUnits } from '#cli/client/service-units.ts'
import { init } from '#cli/init.ts'
import { join } from '#cli/join.ts'
import { machineFacts } from '#cli/machine-fitness.ts'
import { names } from '#cli/names.ts'
import { reload } from '#cli/reload.ts'
import { upgrade } from '#cli/upgrade.ts'
import type { Context } from './context.ts'
import { verb } from './options.ts'

interface InitOptions {
  readonly advertise?: string
  readonly host?: string
  readonly trustDomain: string
}

interface JoinOptions {
  readonly tokenFile: string
  readonly host?: string
  readonly address?: string
}

interface NamesOptions {
  readonly setUp: boolean
  readonly config: string
}

/** See the header. */
export function addSetupVerbs(program: Command, context: Context): void {
  const { isRoot } = context.surroundings
  verb(program, 'init', 'make this host the first of a mesh: controller, agent, join line')
    .option('--advertise <address>', 'where other hosts reach this one; default: its first address')
    .option('--host <name>', 'name of this host in the mesh; default: its host name')
    .option('--trust-domain <name>', 'name of the mesh in every identity', 'mesh.internal')
    .action((options: InitOptions) => {
      const { advertise = null, host = null, trustDomain } = options
      const controller = () => context.openController()
      const parts = { ...context.local(), units: systemdUnits, machine: machineFacts, controller }
      return context.done(init(parts, { isRoot, advertise, host, trustDomain }))
    })
  verb(
    program,
    'join <controller>',
    'bring this host into a mesh: <controller> is host or host:port',
  )
    .requiredOption('--token-file <path>', 'file with the join token; - for standard input')
    .option('--host <name>', 'name of this host in the mesh; default: its host name')
    .option('--address <ip>', 'where other hosts reach this one; default: its first address')
    .action((controller: string, options: JoinOptions) => {
      const { tokenFile, host = null, address = null } = options
      const parts = { ...context.local(), units: systemdUnits, machine: machineFacts }
      return context.done(join(parts, { isRoot, controller, tokenFile, host, address }))
    })
  verb(program, 'names', 'whether programs here find names as orders.mesh')
    .option('--set-up', 'tell systemd-resolved of them, as init and join do', false)
    .option('--config <file>', 'config of the agent', '/etc/mesh/agent.json')
    .action(({ setUp, config: configPath }: NamesOptions) => {
      const parts = { ...context.local(), units: systemdUnits }
      return context.done(names(parts, { isRoot, setUp, configPath }))
    })
  verb(
    program,
    'reload',
    'have the agent read its config again; a wrong one changes nothing',
  ).action(() => context.done(reload(context.local())))
  verb(
    program,
    'upgrade',
    'hand everything on this host over to the installed version, without a lost request',
  ).action(() => context.done(upgrade({ ...context.local(), units: systemdUnits }, { isRoot })))
}
