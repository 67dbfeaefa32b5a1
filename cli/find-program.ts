/** Owns the search for a program on this machine, in the places a root shell would look. */

import { accessSync, constants } from 'node:fs'

const places = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin']

/** The full path of a program, or null. */
export function findProgram(name: string): string | null {
  for (const place of places) {
    try {
      accessSync(`${place}/${name}`, constants.X_OK)
      return `${place}/${name}`
    } catch {}
  }
  return null
}
