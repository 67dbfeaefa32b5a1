/** Declares the verbs about who may call what. */

import type { Command } from 'commander'
import { authzExplain, authzList } from '#cli/authz.ts'
import type { Context } from './context.ts'
import { list, verb } from './options.ts'

interface ExplainOptions {
  readonly host?: string
  readonly header?: readonly string[]
}

/** See the header. */
export function addAuthzVerbs(program: Command, context: Context): void {
  const authz = verb(program, 'authz', 'who may call the services of this host')
  verb(authz, 'list', 'the policy of each service here, and whether it protects it').action(() =>
    context.done(authzList(context.local())),
  )
  verb(authz, 'explain <source> <service> [method] [path]', 'whether a call is permitted, and why')
    .option('--host <name>', 'the Host of the request')
    .option('--header <name=value>', 'a field of the request (repeatable)', list)
    .action(
      (
        source: string,
        service: string,
        method = '',
        path = '/',
        { header: headers = [], ...host }: ExplainOptions,
      ) =>
        context.done(
          authzExplain(context.local(), { source, service, method, path, headers, ...host }),
        ),
    )
}
