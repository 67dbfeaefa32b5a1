/** Declares the verbs about the hosts of the mesh: how they join, what they may, and bans. */

import { Option, type Command } from 'commander'
import { hostBan, hostList, hostServices, hostUnban, type Whom } from '#cli/host.ts'
import { tokenCreate } from '#cli/token.ts'
import type { Context } from './context.ts'
import { list, time, verb } from './options.ts'

interface TokenOptions {
  readonly service: readonly string[]
  readonly ttl: number
}

interface BanOptions {
  readonly serial?: string
  readonly reason?: string
}

/** See the header. */
export function addHostVerbs(program: Command, context: Context): void {
  const token = verb(program, 'token', 'join tokens')
  verb(token, 'create <host>', 'make the token with which a host joins once')
    .requiredOption('--service <glob>', 'service the host may speak for (repeatable)', list)
    .addOption(
      new Option('--ttl <time>', 'how long it may be used: 90s, 15m, 2h, 7d at most')
        .argParser(time)
        // Left to the controller.
        .default(0, '1h'),
    )
    .action((host: string, { service: services, ttl: ttlMs }: TokenOptions) =>
      context.withController((parts) =>
        tokenCreate({ ...parts, now: () => context.clock.now() }, { host, services, ttlMs }),
      ),
    )

  const host = verb(program, 'host', 'hosts of the mesh')
  verb(host, 'list', 'hosts that have joined').action(() => context.withController(hostList))
  verb(host, 'ban [host]', 'cut a host off, or one certificate, at once')
    .option('--serial <hex>', 'ban the certificate with this serial instead of a host')
    .option('--reason <text>', 'why; shown wherever it is refused', '')
    .action((name: string | undefined, options: BanOptions) => {
      const settings = { whom: whom(program, name, options), reason: options.reason ?? '' }
      return context.withController((parts) =>
        hostBan({ ...parts, clock: context.waitingClock }, settings),
      )
    })
  verb(host, 'unban [host]', 'lift a ban')
    .option('--serial <hex>', 'of the certificate with this serial')
    .action((name: string | undefined, options: BanOptions) => {
      const settings = { whom: whom(program, name, options) }
      return context.withController((parts) =>
        hostUnban({ ...parts, clock: context.waitingClock }, settings),
      )
    })
  verb(host, 'services <host>', 'which services a host may speak for')
    .option('--service <glob>', 'set that anew (repeatable)', list)
    .action((name: string, { service: services = [] }: { readonly service?: readonly string[] }) =>
      context.withController((parts) => hostServices(parts, { host: name, services })),
    )
}

/** A host, or a certificate by its serial. */
function whom(program: Command, host: string | undefined, { serial }: BanOptions): Whom {
  if ((host === undefined) === (serial === undefined)) {
    program.error('name either a host or --serial, not both')
  }
  return serial === undefined ? { kind: 'host', host: host ?? '' } : { kind: 'serial', serial }
}
