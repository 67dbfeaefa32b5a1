/**
 * Owns the file in which a controller remembers the newest record of every host,
 * `<state>/hosts.jsonl`: a line for each change, the last one of a host counts. A line that a crash
 * cut short never happened; anything else that cannot be read is damage, and told.
 */

import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { writeFileAtomic } from '#shared/lifecycle/atomic-file.ts'
import type { HostName } from '#shared/model/names.ts'
import type { HostRecord } from '#shared/model/records.ts'
import { decodeHost, encodeRecord } from '#shared/schema/records.ts'
import { damaged, readIfThere, unwritable } from './state-faults.ts'

/** What is remembered of a host. */
export interface KeptHost {
  readonly epoch: number
  readonly record: HostRecord
}

const without = 'without this file an old store could widen again what hosts may do'
const header = '{"format":1}'
/** Lines beyond those that count, before the file is written anew. */
const spareLines = 1000

/** See the header. */
export class HostLedgerFile {
  readonly #path: string
  /** Whether the end of the file may be half a line. */
  #isTorn = true
  #lines = 0

  constructor(settings: { readonly stateDirectory: string }) {
    this.#path = join(settings.stateDirectory, 'hosts.jsonl')
  }

  /** What it holds; nothing where there is none yet. Throws MeshError `state-…`. */
  async load(): Promise<Map<HostName, KeptHost>> {
    const kept = new Map<HostName, KeptHost>()
    const text = await readIfThere(this.#path)
    if (text === null) return kept
    const lines = text.split('\n')
    // What stands behind the last line end was cut short.
    lines.pop()
    const [first, ...changes] = lines
    if (first !== header)
      throw damaged(this.#path, 'it does not begin as this version writes it', without)
    for (const [index, line] of changes.entries()) {
      const host = readLine(line)
      if (host === null) throw damaged(this.#path, `line ${index + 2} is no host`, without)
      kept.set(host.record.host, host)
    }
    this.#lines = changes.length
    this.#isTorn = !text.endsWith('\n')
    return kept
  }

  /** Remembers changes; `all` is what holds after them. Throws MeshError `state-unwritable`. */
  async add(changes: readonly KeptHost[], all: ReadonlyMap<HostName, KeptHost>): Promise<void> {
    try {
      const isLong = this.#lines + changes.length > spareLines + 2 * all.size
      if (this.#isTorn || isLong) await this.#rewrite([...all.values()])
      else await this.#append(changes)
    } catch (error) {
      this.#isTorn = true
      throw unwritable(this.#path, error)
    }
  }

  async #append(changes: readonly KeptHost[]): Promise<void> {
    const file = await open(this.#path, 'a', 0o600)
    try {
      await file.appendFile(changes.map((change) => `${writeLine(change)}\n`).join(''))
      await file.datasync()
    } finally {
      await file.close()
    }
    this.#lines += changes.length
  }

  async #rewrite(all: readonly KeptHost[]): Promise<void> {
    await writeFileAtomic(this.#path, [header, ...all.map(writeLine), ''].join('\n'))
    this.#lines = all.length
    this.#isTorn = false
  }
}

function writeLine({ epoch, record }: KeptHost): string {
  return JSON.stringify({ epoch, body: encodeRecord(record) })
}

function readLine(line: string): KeptHost | null {
  try {
    const { epoch, body } = JSON.parse(line) as Readonly<Record<string, unknown>>
    if (!Number.isSafeInteger(epoch) || typeof body !== 'string') return null
    const record = decodeHost(body)
    return record.ok ? { epoch: epoch as number, record: record.value } : null
  } catch {
    return null
  }
}
