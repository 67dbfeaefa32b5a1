/** Owns the machine as the demo's world sees it, for tests that build one. */

import { join } from 'node:path'
import type { Machine } from '#cli/demo/machine.ts'
import { root } from './sources.ts'

/** This process and its rights. */
export const thisMachine: Machine = {
  pid: process.pid,
  isRoot: process.getuid?.() === 0,
  node: process.execPath,
  environment: {
    PATH: '/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    LC_ALL: 'C.UTF-8',
    // Every world starts a dozen programs: one of them strips the types, the others find the code.
    NODE_COMPILE_CACHE: join(root, 'node_modules/.cache/hostmesh'),
  },
  isAlive: (pid) => quietly(() => process.kill(pid, 0)),
  killGroup: (pid) => void quietly(() => process.kill(-pid, 'SIGKILL')),
}

function quietly(run: () => unknown): boolean {
  try {
    run()
    return true
  } catch {
    return false
  }
}
