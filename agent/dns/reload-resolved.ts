/** Owns having systemd-resolved read its files again. It waits a bounded time and decides nothing. */

import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

/** Rejects with what systemctl says. */
export async function reloadResolved(): Promise<void> {
  const words = ['reload-or-restart', 'systemd-resolved.service']
  await promisify(execFile)('systemctl', words, { timeout: 10_000 })
}
