/**
 * Owns the file in which a controller keeps the newest trust records, `<state>/trust.json`. Written
 * whole or not at all; a damaged one is told and never replaced, because bans would be forgotten.
 */

import { join } from 'node:path'
import { writeFileAtomic } from '#shared/lifecycle/atomic-file.ts'
import { damaged, fromNewerVersion, readIfThere, unwritable } from './state-faults.ts'
import type { TrustEntries } from './trust-entries.ts'
import { readKeptEntry } from './trust-entries.ts'

const format = 1
const without = 'without this file bans would be forgotten'

/** See the header. */
export class TrustLedgerFile {
  readonly #path: string

  constructor(settings: { readonly stateDirectory: string }) {
    this.#path = join(settings.stateDirectory, 'trust.json')
  }

  /** What it holds; nothing where there is none. Throws MeshError `state-…`. */
  async load(): Promise<Partial<TrustEntries>> {
    const text = await readIfThere(this.#path)
    if (text === null) return {}
    let file: Readonly<Record<string, unknown>>
    try {
      file = (JSON.parse(text) ?? {}) as Readonly<Record<string, unknown>>
    } catch {
      throw damaged(this.#path, 'it is not JSON', without)
    }
    const found = file['format']
    if (typeof found === 'number' && found > format) {
      throw fromNewerVersion(this.#path, found, format)
    }
    const bundle = readKeptEntry('bundle', String(file['bundle']))
    const bans = readKeptEntry('bans', String(file['bans']))
    if (!bundle.ok) throw damaged(this.#path, bundle.problem, without)
    if (!bans.ok) throw damaged(this.#path, bans.problem, without)
    const kept = { bundle: bundle.value, bans: bans.value }
    // Versions before this record did without.
    const known = file['policies']
    if (known === undefined) return kept
    const policies = readKeptEntry('policies', typeof known === 'string' ? known : '')
    if (!policies.ok) throw damaged(this.#path, policies.problem, without)
    return { ...kept, policies: policies.value }
  }

  /** Throws MeshError `state-unwritable`. */
  async save({ bundle, bans, policies }: TrustEntries): Promise<void> {
    const file = { format, bundle: bundle.text, bans: bans.text, policies: policies.text }
    try {
      await writeFileAtomic(this.#path, `${JSON.stringify(file, null, 2)}\n`)
    } catch (error) {
      throw unwritable(this.#path, error)
    }
  }
}
