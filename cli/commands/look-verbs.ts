/** Declares the verbs that look at this host. */

import type { Command } from 'commander'
import { check } from '#cli/check.ts'
import { external } from '#cli/external.ts'
import { generations } from '#cli/generations.ts'
import { schema } from '#cli/schema.ts'
import { services } from '#cli/services.ts'
import { status } from '#cli/status.ts'
import { why } from '#cli/why.ts'
import type { Context } from './context.ts'
import { timeoutOption, verb } from './options.ts'

interface WhyOptions {
  readonly as?: string
  readonly path?: string
  readonly method: string
}

/** See the header. */
export function addLookVerbs(program: Command, context: Context): void {
  const { documents } = context.surroundings
  verb(program, 'status', 'what this host’s agent is and how it fares').action(() =>
    context.done(status(context.local())),
  )
  verb(program, 'services', 'services this host can call, and where they are').action(() =>
    context.done(services(context.local())),
  )
  verb(
    program,
    'external [service]',
    'services outside the mesh, and where they are called',
  ).action((service?: string) => context.done(external(context.local(), service)))
  verb(program, 'check', 'everything that is wrong here, with cause and fix')
    .option('--wait', 'until nothing fails any more', false)
    .addOption(timeoutOption('how long to wait at most', 60_000))
    .action(({ wait, timeout }: { readonly wait: boolean; readonly timeout: number }) =>
      context.done(check(context.local(), { waitMs: wait ? timeout : 0, documents })),
    )
  verb(program, 'why <service>', 'walk the path of a call from this host, and name what breaks it')
    .option('--as <service>', 'as a service of this host; default: as the host itself')
    .option('--path <path>', 'also send a request for this path')
    .option('--method <method>', 'of that request: GET, HEAD or OPTIONS', 'GET')
    .action((service: string, { as: caller, path, method }: WhyOptions) =>
      context.done(
        why(context.local(), {
          service,
          ...(caller === undefined ? {} : { caller }),
          ...(path === undefined ? {} : { request: { method, path } }),
        }),
      ),
    )
  verb(
    program,
    'generations',
    'which generations of workers there are, and what they still carry',
  ).action(() => context.done(generations(context.local())))
  verb(program, 'schema', 'JSON Schema of a manifest, for editors').action(() =>
    context.done(schema({ printer: context.printer() })),
  )
}
