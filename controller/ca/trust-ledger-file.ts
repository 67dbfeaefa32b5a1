/**
 * Owns the file in which a controller keeps the newest trust records, `<state>/trust.json`. Written
 * whole or not at all; a damaged one is told and never replaced, because bans would be forgotten.
 */

import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { writeFileAtomic } from '#shared/lifecycle/atomic-file.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { TrustEntries } from './trust-entries.ts'
import { readKeptEntry } from './trust-entries.ts'

const format = 1

/** See the header. */
export class TrustLedgerFile {
  readonly #path: string

  constructor(settings: { readonly stateDirectory: string }) {
    this.#path = join(settings.stateDirectory, 'trust.json')
  }

  /** What it holds; nothing where there is none. Throws MeshError `state-…`. */
  async load(): Promise<Partial<TrustEntries>> {
    const text = await this.#read()
    if (text === null) return {}
    let file: Readonly<Record<string, unknown>>
    try {
      file = (JSON.parse(text) ?? {}) as Readonly<Record<string, unknown>>
    } catch {
      throw this.#damaged('it is not JSON')
    }
    const found = file['format']
    if (typeof found === 'number' && found > format) {
      throw new MeshError(
        `${this.#path} is of format ${found}; this mesh-controller reads up to ${format}`,
        {
          code: 'state-from-newer-version',
          hint: 'run the newer mesh-controller that wrote it, or name another state directory',
        },
      )
    }
    const bundle = readKeptEntry('bundle', String(file['bundle']))
    const bans = readKeptEntry('bans', String(file['bans']))
    if (!bundle.ok) throw this.#damaged(bundle.problem)
    if (!bans.ok) throw this.#damaged(bans.problem)
    const kept = { bundle: bundle.value, bans: bans.value }
    // Versions before this record did without.
    const known = file['policies']
    if (known === undefined) return kept
    const policies = readKeptEntry('policies', typeof known === 'string' ? known : '')
    if (!policies.ok) throw this.#damaged(policies.problem)
    return { ...kept, policies: policies.value }
  }

  /** Throws MeshError `state-unwritable`. */
  async save({ bundle, bans, policies }: TrustEntries): Promise<void> {
    const file = { format, bundle: bundle.text, bans: bans.text, policies: policies.text }
    try {
      await writeFileAtomic(this.#path, `${JSON.stringify(file, null, 2)}\n`)
    } catch (error) {
      throw new MeshError(`cannot write ${this.#path}: ${messageOf(error)}`, {
        code: 'state-unwritable',
        hint: 'mesh-controller must run as the user that owns its state directory, with space on the disk',
        cause: error,
      })
    }
  }

  async #read(): Promise<string | null> {
    try {
      return await readFile(this.#path, 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
      throw this.#damaged(messageOf(error))
    }
  }

  #damaged(why: string): MeshError {
    return new MeshError(`${this.#path} is damaged: ${why}`, {
      code: 'state-damaged',
      hint: 'restore the state directory from a backup; without this file bans would be forgotten',
    })
  }
}
