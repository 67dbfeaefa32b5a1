/**
 * Owns the last good version of every manifest on the disk, so that a file that went bad while the
 * agent was down still keeps what it had.
 */

import { readdir, readFile } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import type { Manifest } from '#shared/model/manifest.ts'
import { isManifestName } from '#shared/model/manifest-name.ts'
import { readManifest } from '#shared/schema/manifest.ts'
import { DirectoryMirror, type DirectoryMirrorParts } from './directory-mirror.ts'
import { standsAt } from './manifest-file.ts'

/** A version that was accepted. */
export interface GoodVersion {
  readonly manifest: Manifest
  readonly text: string
}

/** See the header. */
export class GoodVersions {
  readonly #directory: string
  readonly #mirror: DirectoryMirror
  /** Names of the files of versions. */
  readonly #names = new WeakMap<GoodVersion, string>()

  constructor(parts: DirectoryMirrorParts, settings: { readonly stateDirectory: string }) {
    this.#directory = `${settings.stateDirectory}/manifests`
    this.#mirror = new DirectoryMirror(parts, {
      directory: this.#directory,
      mode: 0o600,
      durable: true,
    })
  }

  /** What an earlier run kept, by the path in `manifestDirectory`; what cannot be read is left out. */
  async load(manifestDirectory: string): Promise<ReadonlyMap<string, GoodVersion>> {
    const names = await readdir(this.#directory, { recursive: true }).catch((): string[] => [])
    const versions = new Map<string, GoodVersion>()
    for (const name of names.filter((one) => isManifestName(basename(one)))) {
      const bytes = await readFile(`${this.#directory}/${name}`).catch(() => null)
      const path = `${manifestDirectory}/${name}`
      const owner = dirname(name)
      const reading =
        bytes === null ? null : readManifest(path, bytes, owner === '.' ? {} : { owner })
      if (bytes !== null && reading?.ok === true) {
        versions.set(path, { manifest: reading.manifest, text: bytes.toString('utf8') })
      }
    }
    return versions
  }

  /** Keeps these from now on, by their paths. */
  keep(versions: ReadonlyMap<string, GoodVersion>): void {
    const texts = new Map<string, string>()
    for (const [path, version] of versions) texts.set(this.#nameOf(path, version), version.text)
    this.#mirror.show(texts)
  }

  /** There may be a thousand, and each change of one keeps all of them. */
  #nameOf(path: string, version: GoodVersion): string {
    let name = this.#names.get(version)
    if (name === undefined) {
      name = standsAt(path, version.manifest.owner)
      this.#names.set(version, name)
    }
    return name
  }

  /** Resolves when what is to be kept is on the disk, or could not be written. */
  settled(): Promise<void> {
    return this.#mirror.settled()
  }

  /** Stops writing. */
  stop(): Promise<void> {
    return this.#mirror.stop()
  }
}
