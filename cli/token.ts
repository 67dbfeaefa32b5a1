/** Owns `meshctl token`: making the secret with which one host may join once. */

import { parseHostName } from '#shared/model/names.ts'
import type { ControllerClient } from '#shared/rpc/controller-client.ts'
import { exitCodes } from './exit-codes.ts'
import { duration } from './output/table.ts'
import type { Printer } from './output/printer.ts'

/** What the token is for. */
export interface TokenSettings {
  readonly host: string
  /** Globs, `*` only. */
  readonly services: readonly string[]
  /** 0 for the controller's default. */
  readonly ttlMs: number
}

/** Prints a join token alone on standard output, so that it can go straight into a file. */
export async function tokenCreate(
  parts: {
    readonly controller: ControllerClient
    readonly printer: Printer
    readonly now: () => number
  },
  settings: TokenSettings,
): Promise<number> {
  const host = parseHostName(settings.host)
  if (!host.ok) {
    parts.printer.note(host.problem)
    return exitCodes.usage
  }
  const created = await parts.controller.call('Operations', 'CreateToken', settings)
  parts.printer.result(created, () => created.token)
  const left = duration(created.expiresAtMs - parts.now())
  parts.printer.note(`for host ${settings.host}, once, within ${left}`)
  return exitCodes.ok
}

/** Reads `90s`, `15m`, `2h` or `1d`; null for anything else. */
export function parseTtl(text: string): number | null {
  const match = /^(\d{1,6})(s|m|h|d)$/.exec(text)
  if (match === null) return null
  const units: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3.6e6, d: 8.64e7 }
  return Number(match[1]) * (units[match[2] ?? ''] ?? 0)
}
