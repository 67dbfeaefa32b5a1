/** Declares the verbs that look at this host. */

import type { Command } from 'commander'
import { check } from '#cli/check.ts'
import { schema } from '#cli/schema.ts'
import { services } from '#cli/services.ts'
import { status } from '#cli/status.ts'
import type { Context } from './context.ts'
import { verb } from './options.ts'

/** See the header. */
export function addLookVerbs(program: Command, context: Context): void {
  verb(program, 'status', 'what this host’s agent is and how it fares').action(() =>
    context.done(status(context.local())),
  )
  verb(program, 'services', 'services this host can call, and where they are').action(() =>
    context.done(services(context.local())),
  )
  verb(program, 'check', 'everything that is wrong here, with cause and fix').action(() =>
    context.done(check(context.local())),
  )
  verb(program, 'schema', 'JSON Schema of a manifest, for editors').action(() =>
    context.done(schema({ printer: context.printer() })),
  )
}
