/** Declares the verbs that bring results of push checks. */

import type { Command } from 'commander'
import { healthRun, healthTell } from '#cli/health.ts'
import type { Context } from './context.ts'
import { timeoutOption, verb } from './options.ts'

const said = { pass: 'passes', warn: 'warns', fail: 'fails' } as const

/** See the header. */
export function addHealthVerbs(program: Command, context: Context): void {
  const health = verb(program, 'health', 'bring results of push checks to the agent')
  for (const outcome of ['pass', 'warn', 'fail'] as const) {
    verb(health, `${outcome} <service>`, `say that a check of a local service ${said[outcome]}`)
      .option('--check <name>', 'which check, where several wait for results')
      .option('--detail <text>', 'what was seen', '')
      .action((service: string, options: { readonly check?: string; readonly detail: string }) =>
        context.done(healthTell(context.local(), { service, outcome, ...options })),
      )
  }
  verb(
    health,
    'run',
    'run a command and bring what it finds: exit status 0 passes, 1 warns, any other fails',
  )
    .argument('<service>', 'a service of this host')
    .argument('<command...>', 'behind --, which keeps its options its own')
    .usage('[options] <service> -- <command...>')
    .option('--check <name>', 'which check, where several wait for results')
    .addOption(timeoutOption('how long the command may take', 30_000))
    .action(
      (
        service: string,
        command: string[],
        { timeout, ...options }: { readonly check?: string; readonly timeout: number },
      ) => {
        const { killGroup, beforeSignal } = context.surroundings
        return context.done(
          healthRun(
            { ...context.local(), killGroup, beforeSignal },
            { service, command, timeoutMs: timeout, ...options },
          ),
        )
      },
    )
}
