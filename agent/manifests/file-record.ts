/**
 * Owns what is remembered of one manifest file, and the patience with it: a version that does not
 * parse but has only just been written, or a file that has only just gone, may be half of a change,
 * so it is looked at again before it counts. Pure.
 */

import type { Manifest } from '#shared/model/manifest.ts'
import type { GoodVersion } from './good-versions.ts'
import type { FileLook, FileVersion } from './manifest-file.ts'

/** How long a bad or missing file must stay so before it is believed, milliseconds. */
export const settleMs = 200

/** A file that never comes to rest is believed after this long all the same, milliseconds. */
const patienceMs = 2000

/** See the header. */
export class FileRecord {
  /** The version that counts; null while the first one is still in doubt. */
  version: FileVersion | null = null
  lastGood: GoodVersion | null
  /** The local user whose it is; null for the administrator's. */
  readonly user: string | null
  #doubt: { readonly hash: string; readonly since: number; readonly first: number } | null = null

  constructor(lastGood: GoodVersion | null, user: string | null = null) {
    this.lastGood = lastGood
    this.user = user
  }

  /** What tells an unchanged file without reading it; empty while in doubt. */
  get stamp(): string {
    return this.#doubt === null ? (this.version?.stamp ?? '') : ''
  }

  /** What was last accepted. */
  get lastManifest(): Manifest | null {
    return this.lastGood?.manifest ?? null
  }

  /**
   * Takes in a look at the file. Answers `keep`, `forget` once it is gone for good, or `again` while
   * in doubt. Times: `now` of the wall clock, `elapsed` monotonic, milliseconds.
   */
  see(look: FileLook, now: number, elapsed: number): 'keep' | 'forget' | 'again' {
    if (look.kind === 'unchanged') return 'keep'
    if (look.kind === 'gone') return this.#settled('gone', elapsed) ? 'forget' : 'again'
    const { version } = look
    const isOld = version.mtimeMs > 0 && now - version.mtimeMs >= settleMs
    const isKnown = version.hash === this.version?.hash
    const isFine = version.reading.ok || isKnown || isOld
    if (!isFine && !this.#settled(version.hash, elapsed)) return 'again'
    this.#doubt = null
    const { stamp, mtimeMs } = version
    // The same content is the same version, so that a touch changes nothing that others compare.
    this.version = isKnown && this.version !== null ? { ...this.version, stamp, mtimeMs } : version
    return 'keep'
  }

  #settled(hash: string, elapsed: number): boolean {
    const doubt = this.#doubt
    if (doubt === null || doubt.hash !== hash) {
      this.#doubt = { hash, since: elapsed, first: doubt?.first ?? elapsed }
      return doubt !== null && elapsed - doubt.first >= patienceMs
    }
    return elapsed - doubt.since >= settleMs || elapsed - doubt.first >= patienceMs
  }
}
