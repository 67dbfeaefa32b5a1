/** Owns the failures of identity that several places meet, worded once. */

import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { Parsed } from '#shared/model/names.ts'

/** What the controller answered, or the failure that it is of no use. */
export function accepted<T>(parsed: Parsed<T>): T {
  if (parsed.ok) return parsed.value
  throw new MeshError(`the controller's answer is of no use: ${parsed.problem}`, {
    code: 'bad-controller-answer',
    hint: 'is the controller of a compatible version?',
  })
}

/** The host has no valid credential, and only a join token helps. */
export function hostLost(code: string, message: string): MeshError {
  return new MeshError(message, {
    code,
    hint: 'make a join token (meshctl token create HOST --service …) and put it into the file that joinTokenFile names',
    retry: true,
  })
}

/** Failures of the host's identity that waiting may mend: a token or a controller may still come. */
export const waitsForHelp: ReadonlySet<string> = new Set([
  'not-enrolled',
  'host-certificate-ended',
  'host-file-damaged',
])
