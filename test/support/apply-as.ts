/**
 * A program that runs `meshctl manifest apply` as another user: `apply-as.ts UID FILE DIRECTORY
 * SOCKET`. It becomes that user once it is loaded, so that nobody but root need read this checkout.
 */

import { AdminSocket } from '#cli/client/admin-socket.ts'
import { manifestApply } from '#cli/manifest-apply.ts'
import { Printer } from '#cli/output/printer.ts'
import { systemClock } from '#shared/lifecycle/clock.ts'

const [uid = '', file = '', directory = '', socketPath = ''] = process.argv.slice(2)
process.setgroups?.([])
process.setgid?.(Number(uid))
process.setuid?.(Number(uid))
const streams = {
  out: (text: string) => void process.stdout.write(text),
  err: (text: string) => void process.stderr.write(text),
}
process.exitCode = await manifestApply(
  {
    agent: new AdminSocket({ socketPath }),
    clock: systemClock,
    printer: new Printer({ streams }, { json: false }),
  },
  { file, directory, user: 'me', waitMs: 60_000 },
)
