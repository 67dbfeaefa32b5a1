/** Owns `meshctl cert`: which certificates the mesh's controllers have issued. */

import type { ControllerClient } from '#shared/rpc/controller-client.ts'
import { exitCodes } from './exit-codes.ts'
import type { Printer } from './output/printer.ts'
import { duration, table } from './output/table.ts'

/** Which of them. */
export interface CertListSettings {
  /** Of one host; empty for all. */
  readonly host: string
  /** Also those that have ended. */
  readonly ended: boolean
  /** 0 for the controller's default. */
  readonly limit: number
}

/** Prints what the journal holds, the first to end first. */
export async function certList(
  parts: {
    readonly controller: ControllerClient
    readonly printer: Printer
    readonly now: () => number
  },
  settings: CertListSettings,
): Promise<number> {
  const { certificates, more } = await parts.controller.call(
    'Journal',
    'ListCertificates',
    settings,
  )
  const now = parts.now()
  parts.printer.result(certificates, () =>
    table(
      ['SUBJECT', 'HOST', 'SERIAL', 'ISSUED', 'ENDS', 'BY'],
      certificates.map(({ subject, host, serial, issuedAtMs, notAfterMs, controller }) => [
        subject,
        host === '' ? '-' : host,
        serial,
        new Date(issuedAtMs).toISOString(),
        notAfterMs > now ? `in ${duration(notAfterMs - now)}` : 'ended',
        controller,
      ]),
      'no certificate is remembered',
    ),
  )
  if (more) parts.printer.note('there are more: name a host with --host, or raise --limit')
  return exitCodes.ok
}
