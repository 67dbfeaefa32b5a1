/** Declares the verbs by which units of systemd take part in the mesh. */

import { InvalidArgumentError, type Command } from 'commander'
import { systemdUnits } from '#cli/client/service-units.ts'
import { unitLink, unitList, unitUnlink } from '#cli/unit-link.ts'
import { unitEnter, unitLeave, unitWait } from '#cli/unit-turn.ts'
import { parseServiceName, type ServiceName } from '#shared/model/names.ts'
import type { Context } from './context.ts'
import { timeoutOption, verb } from './options.ts'

interface LinkOptions {
  readonly unit?: string
  readonly strict: boolean
}

/** What linked units have done by themselves. */
const turns = {
  wait: {
    run: unitWait,
    description: 'wait until everything that it requires can be called',
    timeoutMs: 300_000,
  },
  enter: {
    run: unitEnter,
    description: 'put it back into rotation, where its unit took it out',
    timeoutMs: 300_000,
  },
  leave: {
    run: unitLeave,
    description: 'drain it, where its unit still runs',
    timeoutMs: 120_000,
  },
} as const

/** See the header. */
export function addUnitVerbs(program: Command, context: Context): void {
  const { isRoot } = context.surroundings
  const parts = () => ({ ...context.local(), units: systemdUnits })
  const unit = verb(program, 'unit', 'units of systemd that take part in the mesh')
  verb(unit, 'link', 'have its unit wait for what it requires, and drain it before it stops')
    .argument('<service>', 'a service of this host', service)
    .option('--unit <name>', 'its unit; default: the one that its manifest names')
    .option('--strict', 'do not start the unit where it has waited in vain', false)
    .action((name: ServiceName, { unit: named, strict }: LinkOptions) =>
      context.done(unitLink(parts(), { isRoot, service: name, unit: named ?? null, strict })),
    )
  verb(unit, 'unlink', 'have its unit start and stop as before')
    .argument('<service>', 'a service of this host', service)
    .action((name: ServiceName) => context.done(unitUnlink(parts(), { isRoot, service: name })))
  verb(unit, 'list', 'which units are linked').action(() => context.done(unitList(parts())))
  for (const [name, { run, description, timeoutMs }] of Object.entries(turns)) {
    verb(unit, name, description)
      .argument('<service>', 'a service of this host', service)
      .addOption(timeoutOption('how long that may take', timeoutMs))
      .action((of: ServiceName, { timeout: waitMs }: { readonly timeout: number }) =>
        context.done(run(parts(), { service: of, waitMs })),
      )
  }
}

function service(text: string): ServiceName {
  const name = parseServiceName(text)
  if (name.ok) return name.value
  throw new InvalidArgumentError(name.problem)
}
