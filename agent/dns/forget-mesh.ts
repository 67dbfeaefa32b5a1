/**
 * Owns what the guard does for names when the agent is gone: the mesh's own part of `/etc/resolv.conf`
 * goes, so that nobody asks a name server that is not there. An agent that comes back puts it there again.
 */

import { readFile, writeFile } from 'node:fs/promises'
import { withoutMesh } from './resolv-conf.ts'

/** Takes it out, where it is; rejects where the file may not be read or written. */
export async function forgetMesh(resolvConf = '/etc/resolv.conf'): Promise<void> {
  const text = await readFile(resolvConf, 'utf8')
  const before = withoutMesh(text)
  // In place: it may be a link, or a mount of its own, which a rename would break.
  if (before !== text) await writeFile(resolvConf, before)
}
