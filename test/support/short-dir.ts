/** Owns temporary directories with short names: a unix socket's path may have 107 bytes only. */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Makes a directory that is removed when the test ends. */
export function shortDir(t: { teardown(run: () => void): unknown }): string {
  const dir = mkdtempSync(join(tmpdir(), 'hm-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}
