/**
 * Owns the last good view of the mesh on the disk, so that a host can start while the store and the
 * controller are away. The records are kept as the store had them and are read again like the
 * store's, so a cache can say nothing that the store could not.
 */

import { createHash } from 'node:crypto'
import { mkdir, readFile } from 'node:fs/promises'
import { writeFileAtomic } from '#shared/lifecycle/atomic-file.ts'
import type { HostName, ServiceName, TrustDomain } from '#shared/model/names.ts'

/** A view as it is kept. */
export interface CachedView {
  readonly revision: number
  /** When the store last vouched for it, milliseconds since the epoch; 0 where that is not known. */
  readonly savedAtMs: number
  readonly entries: ReadonlyMap<string, string>
  /** Which services this host uses: when each was called or asked for last. @default none */
  readonly used?: ReadonlyMap<ServiceName, number>
  /** Whether the entries are those of the services in use only. @default false */
  readonly onDemand?: boolean
}

/** What loading answers. */
export type CacheReading =
  | { readonly kind: 'loaded'; readonly view: CachedView }
  | { readonly kind: 'none'; readonly reason: string }

/** Settings of a cache. */
export interface DiskCacheSettings {
  readonly stateDirectory: string
  readonly host: HostName
  readonly trustDomain: TrustDomain
}

/** Changes when older agents could not read the file any more. */
const format = 1
/** Of what is written at once, characters. */
const pieceLength = 65_536

/** See the header. */
export class DiskCache {
  readonly #settings: DiskCacheSettings

  constructor(settings: DiskCacheSettings) {
    this.#settings = settings
  }

  /** Where it is. */
  get path(): string {
    return `${this.#settings.stateDirectory}/snapshot.json`
  }

  /** Replaces the file as a whole. Rejects with what the file system says. */
  async save(view: CachedView): Promise<void> {
    const { revision, savedAtMs, entries, used = new Map(), onDemand = false } = view
    const { stateDirectory, host, trustDomain } = this.#settings
    const about = { format, host, trustDomain, revision, savedAtMs, onDemand, used: [...used] }
    await mkdir(stateDirectory, { recursive: true, mode: 0o700 })
    await writeFileAtomic(this.path, fileOf(about, entries), { mode: 0o600 })
  }

  /** Reads the file; one that is damaged, of another host or of a newer format is not used. */
  async load(): Promise<CacheReading> {
    const text = await readFile(this.path, 'utf8').catch(() => null)
    if (text === null) return { kind: 'none', reason: 'there is none' }
    const newline = text.indexOf('\n')
    const body = text.slice(newline + 1, -1)
    if (text.slice(0, newline) !== checksum([body]))
      return { kind: 'none', reason: 'it is damaged' }
    return this.#judge(JSON.parse(body) as KeptView)
  }

  #judge(kept: KeptView): CacheReading {
    const { host, trustDomain } = this.#settings
    if (kept.format !== format) return { kind: 'none', reason: `it has format ${kept.format}` }
    if (kept.host !== host || kept.trustDomain !== trustDomain) {
      const reason = `it belongs to host ${kept.host} of ${kept.trustDomain}`
      return { kind: 'none', reason }
    }
    const { revision, savedAtMs = 0, entries, used = [], onDemand = false } = kept
    const view = { revision, savedAtMs, entries: new Map(entries), used: new Map(used), onDemand }
    return { kind: 'loaded', view }
  }
}

/** What the checksum vouches for: it was written by this file. */
interface KeptView {
  readonly format: number
  readonly host: string
  readonly trustDomain: string
  readonly revision: number
  readonly savedAtMs?: number
  readonly entries: readonly (readonly [string, string])[]
  readonly used?: readonly (readonly [ServiceName, number])[]
  readonly onDemand?: boolean
}

/** The file in pieces: that of a large mesh has megabytes, and would be in memory three times over. */
function* fileOf(about: object, entries: CachedView['entries']): Generator<string> {
  yield `${checksum(bodyOf(about, entries))}\n`
  yield* bodyOf(about, entries)
  yield '\n'
}

function* bodyOf(about: object, entries: CachedView['entries']): Generator<string> {
  let piece = `${JSON.stringify(about).slice(0, -1)},"entries":[`
  let comma = ''
  for (const entry of entries) {
    piece += comma + JSON.stringify(entry)
    comma = ','
    if (piece.length < pieceLength) continue
    yield piece
    piece = ''
  }
  yield `${piece}]}`
}

function checksum(pieces: Iterable<string>): string {
  const hash = createHash('sha256')
  for (const piece of pieces) hash.update(piece)
  return hash.digest('hex')
}
