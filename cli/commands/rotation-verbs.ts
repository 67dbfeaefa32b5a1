/** Declares the verbs that take services and hosts out of rotation and back. */

import { Argument, type Command } from 'commander'
import { drain, maintenance, undrain } from '#cli/rotation.ts'
import type { Context } from './context.ts'
import { timeoutOption, verb } from './options.ts'

interface DrainOptions {
  readonly reason: string
  readonly wait: boolean
  readonly timeout: number
}

/** See the header. */
export function addRotationVerbs(program: Command, context: Context): void {
  withWait(
    verb(
      program,
      'drain <service-or-host>',
      'take a service of this host, or the host, out of rotation',
    ),
    'until nothing reaches it any more, so that it may be stopped',
  ).action((target: string, { reason, wait, timeout }: DrainOptions) =>
    context.done(drain(context.local(), { target, reason, waitMs: wait ? timeout : 0 })),
  )
  verb(program, 'undrain <service-or-host>', 'put it back into rotation').action((target: string) =>
    context.done(undrain(context.local(), { target })),
  )
  withWait(
    verb(program, 'maintenance', 'take this whole host out of rotation and back').addArgument(
      new Argument('<on|off|status>').choices(['on', 'off', 'status']),
    ),
    'until nothing reaches its services any more',
  ).action((wish: 'on' | 'off' | 'status', { reason, wait, timeout }: DrainOptions) =>
    context.done(maintenance(context.local(), { wish, reason, waitMs: wait ? timeout : 0 })),
  )
}

function withWait(command: Command, description: string): Command {
  return command
    .option('--reason <text>', 'for those who wonder later', '')
    .option('--wait', description, false)
    .addOption(timeoutOption('how long to wait at most', 120_000))
}
