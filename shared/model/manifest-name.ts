/** Owns which names in a manifest directory are meant as manifests. */

/** Whether a name is meant as a manifest: not a dotfile, not an editor's leftover. */
export function isManifestName(name: string): boolean {
  return /^[^.#].*\.json$/s.test(name)
}
