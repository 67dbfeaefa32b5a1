/** Declares the verbs about the certificate authority: its root, its controllers, what it issued. */

import type { Command } from 'commander'
import { caAbort, caRotate, caStatus, type CaParts } from '#cli/ca.ts'
import { certList } from '#cli/cert.ts'
import { controllerAdmit, controllerList } from '#cli/controllers.ts'
import type { Context } from './context.ts'
import { count, verb } from './options.ts'

interface RotateOptions {
  readonly status?: true
  readonly abort?: true
  readonly wait: boolean
}

interface ListOptions {
  readonly host: string
  readonly ended: boolean
  readonly limit: number
}

/** See the header. */
export function addCaVerbs(program: Command, context: Context): void {
  const ca = verb(program, 'ca', 'the mesh’s certificate authority')
  verb(ca, 'rotate', 'replace the root, without a request lost')
    .option('--status', 'only tell how it stands, and which host lags')
    .option('--abort', 'give it up')
    .option('--no-wait', 'do not follow it to its end')
    .action(({ status, abort, wait }: RotateOptions) => {
      if (status === true && abort === true) program.error('--status and --abort are two things')
      const parts: CaParts = {
        connect: () => context.openController(),
        printer: context.printer(),
        clock: context.waitingClock,
      }
      if (status === true) return context.done(caStatus(parts))
      if (abort === true) return context.done(caAbort(parts))
      return context.done(caRotate(parts, { follow: wait }))
    })

  const controllers = verb(program, 'controller', 'the controllers of the mesh')
  verb(controllers, 'list', 'which there are, and which of them leads').action(() =>
    context.withController(controllerList),
  )
  verb(
    controllers,
    'admit <name> <request>',
    'sign the issuing certificate of another controller',
  ).action((name: string, file: string) =>
    context.withController((parts) => controllerAdmit(parts, { name, file })),
  )

  const cert = verb(program, 'cert', 'certificates of the mesh')
  verb(cert, 'list', 'what was issued, to which host, and when it ends')
    .option('--host <name>', 'of one host', '')
    .option('--ended', 'also those that have ended', false)
    .option('--limit <count>', 'how many at most', count, 0)
    .action((options: ListOptions) =>
      context.withController((parts) =>
        certList({ ...parts, now: () => context.clock.now() }, options),
      ),
    )
}
