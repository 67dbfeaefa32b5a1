/**
 * Owns what a receipt tells of how ports are carried: protocols that are declared and yet carried as
 * bytes, and services that are taken for HTTP because they say nothing. Pure.
 */

import { carriageNote, type Finding } from '#shared/model/finding.ts'
import { servedPorts, type Manifest } from '#shared/model/manifest.ts'
import type { PortName } from '#shared/model/names.ts'

const silentNote =
  'it takes connections and says nothing, neither first nor to an HTTP request, so it is carried as HTTP/1; ' +
  'once it has been asked four times, it is asked again after it was down: set "protocol" in the manifest to what it speaks ("tcp", or "http" where it is only slow)'

/** One line for each port that it concerns; `findingOf` a named port, null being the main one. */
export function carriageNotes(
  manifest: Manifest,
  findingOf: (portName: PortName | null) => Finding | null,
): readonly string[] {
  return servedPorts(manifest).flatMap(({ name, port, declared }) => {
    const isSilent = declared === null && findingOf(name)?.speech === 'silent'
    const note = isSilent ? silentNote : carriageNote(declared)
    return note === '' ? [] : [`port ${name ?? port}: ${note}`]
  })
}
