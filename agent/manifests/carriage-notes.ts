/** Owns what a receipt tells of protocols that are declared and yet carried as bytes. Pure. */

import { carriageNote } from '#shared/model/finding.ts'
import { servedPorts, type Manifest } from '#shared/model/manifest.ts'

/** One line for each port that it concerns. */
export function carriageNotes(manifest: Manifest): readonly string[] {
  return servedPorts(manifest).flatMap(({ name, port, declared }) => {
    const note = carriageNote(declared)
    return note === '' ? [] : [`port ${name ?? port}: ${note}`]
  })
}
