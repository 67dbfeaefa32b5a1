/** Declares the verbs of interception: what is captured here, and how to go around the mesh. */

import { type Command } from 'commander'
import { bypass, captureExplain, captureStatus, captureSwitch } from '#cli/capture.ts'
import type { Context } from './context.ts'
import { time, verb } from './options.ts'

interface BypassOptions {
  readonly for: number
  readonly reason: string
  readonly end: boolean
}

/** See the header. */
export function addCaptureVerbs(program: Command, context: Context): void {
  const { user: by } = context.surroundings
  const capture = verb(program, 'capture', 'connections that the kernel leads into the mesh')
  verb(capture, 'status', 'whether connections are captured, and whose').action(() =>
    context.done(captureStatus(context.local())),
  )
  verb(capture, 'on', 'capture again').action(() =>
    context.done(captureSwitch(context.local(), { wish: 'on', reason: '', by })),
  )
  verb(capture, 'off', 'capture and lock nothing on this host, until it is switched on')
    .requiredOption('--reason <text>', 'for those who wonder later')
    .action(({ reason }: { readonly reason: string }) =>
      context.done(captureSwitch(context.local(), { wish: 'off', reason, by })),
    )
  verb(capture, 'explain <ip:port>', 'what becomes of a connection; also <service>.mesh:port')
    .option('--user <name>', 'who opens it; without it, root')
    .option('--unit <name>', 'the systemd unit that opens it, as in orders.service')
    .action((to: string, by: { readonly user?: string; readonly unit?: string }) =>
      context.done(captureExplain(context.local(), { to, ...by })),
    )
  verb(program, 'bypass <service>', 'take one service out of the mesh on this host, for a time')
    .option('--for <time>', 'how long, a day at most: 90s, 10m, 2h', time, 600_000)
    .option('--reason <text>', 'for those who wonder later', '')
    .option('--end', 'put it back before its time', false)
    .action((service: string, options: BypassOptions) => {
      const { for: forMs, reason, end } = options
      return context.done(bypass(context.local(), { service, forMs: end ? 0 : forMs, reason, by }))
    })
}
