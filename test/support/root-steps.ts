/** Owns the steps of a rotation for tests of a CA alone: each as a trust bundle that tells of it. */

import type { Authority } from '#controller/ca/authority.ts'
import type { Phase } from '#controller/ca/rotation.ts'
import { aborted, activated, retired } from '#controller/ca/rotation.ts'

/** False where that is not the next step. */
export const activate = (authority: Authority): Promise<boolean> =>
  take(authority, activated(authority.phase, Date.now()))

/** See `activate`. */
export const abort = (authority: Authority): Promise<boolean> =>
  take(authority, aborted(authority.phase, Date.now()))

/** See `activate`. */
export const retire = (authority: Authority): Promise<boolean> =>
  take(authority, retired(authority.phase))

async function take(authority: Authority, after: Phase | null): Promise<boolean> {
  if (after === null) return false
  await authority.follow(authority.bundleIn(after))
  return true
}
