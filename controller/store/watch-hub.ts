/**
 * Owns the watches of the embedded store: each remembers only the next revision it needs. A watch
 * that is up to date gets a commit's changes directly; one that is behind, or whose reader is slow,
 * is fed from the history page by page, so that nothing is ever queued for it.
 */

import type { Clock, Timer } from '#shared/lifecycle/clock.ts'
import type { WatchCreateRequest, WatchResponse, WireEvent } from '#shared/store/wire.ts'
import type { Interval, Mvcc, StoredEvent } from './mvcc.ts'
import { contains, intervalOf, toWire } from './requests.ts'

/** Takes a watch's answers, or those of several. Called only after `open` returned. */
export interface Reader {
  /** Whether it takes more now; once it does again, `resume` is for its owner to call. */
  readonly isReady: boolean
  take(response: WatchResponse): void
}

/** A watch that runs. */
export interface HubWatch {
  /** Whether everything committed so far has been delivered. */
  readonly current: boolean
  /** The reader takes more. */
  resume(): void
  cancel(): void
}

/** Collaborators of a hub. */
export interface WatchHubParts {
  readonly mvcc: Mvcc
  readonly clock: Clock
  /** An answer that says nothing but where the store is. */
  readonly answer: (watchId: string) => WatchResponse
}

const progressMs = 10 * 60 * 1000
const historyPage = 500
/** Where answers are cut for watches that allow it. */
const fragmentEvents = 500
const fragmentBytes = 1024 * 1024

/** See the header. */
export class WatchHub {
  readonly #parts: WatchHubParts
  readonly #watches = new Set<Watch>()
  readonly #notifying: Timer

  constructor(parts: WatchHubParts) {
    this.#parts = parts
    this.#notifying = parts.clock.every(progressMs, () => {
      for (const watch of this.#watches) watch.notify()
    })
  }

  /** Watches that run now. */
  get size(): number {
    return this.#watches.size
  }

  /** Starts a watch; the answers carry `watchId`. */
  open(request: WatchCreateRequest, watchId: string, reader: Reader): HubWatch {
    const watch = new Watch(this.#parts, request, watchId, reader, () =>
      this.#watches.delete(watch),
    )
    this.#watches.add(watch)
    queueMicrotask(() => watch.catchUp())
    return watch
  }

  /** Hands out what was just committed. */
  committed(events: readonly StoredEvent[]): void {
    const [first] = events
    if (first === undefined) return
    for (const watch of this.#watches) watch.take(events, first.record.modRevision)
  }

  stop(): void {
    this.#notifying.stop()
    this.#watches.clear()
  }
}

class Watch implements HubWatch {
  readonly #parts: WatchHubParts
  readonly #request: WatchCreateRequest
  readonly #interval: Interval
  readonly #watchId: string
  readonly #reader: Reader
  readonly #remove: () => void
  #next: number
  #over = false

  constructor(
    parts: WatchHubParts,
    request: WatchCreateRequest,
    watchId: string,
    reader: Reader,
    remove: () => void,
  ) {
    this.#parts = parts
    this.#request = request
    this.#interval = watchedInterval(request)
    this.#watchId = watchId
    this.#reader = reader
    this.#remove = remove
    const start = Number(request.start_revision ?? 0)
    this.#next = start > 0 ? start : parts.mvcc.revision + 1
  }

  get current(): boolean {
    return this.#next > this.#parts.mvcc.revision
  }

  resume(): void {
    this.catchUp()
  }

  cancel(): void {
    this.#over = true
    this.#remove()
  }

  notify(): void {
    if (this.#request.progress_notify !== true || !this.current) return
    if (this.#reader.isReady) this.#answer({})
  }

  /** Changes of a commit whose first revision is `first`. */
  take(events: readonly StoredEvent[], first: number): void {
    if (this.#next < first) {
      this.catchUp()
      return
    }
    // Behind is only whom it concerns: a slow reader makes no work for its other watches.
    if (this.#reader.isReady) this.#send(events)
    else if (events.some((event) => this.#wants(event))) return
    this.#next = Math.max(this.#next, this.#parts.mvcc.revision + 1)
  }

  catchUp(): void {
    const { mvcc } = this.#parts
    while (!this.#over && this.#reader.isReady && this.#next <= mvcc.revision) {
      if (this.#next < mvcc.compacted) {
        this.#answer({ canceled: true, compact_revision: String(mvcc.compacted) })
        this.cancel()
        return
      }
      const events = mvcc.history(this.#next, historyPage)
      this.#send(events)
      const last = events.at(-1)
      this.#next = last === undefined ? mvcc.revision + 1 : last.record.modRevision + 1
    }
  }

  #send(events: readonly StoredEvent[]): void {
    const wanted = events.filter((event) => this.#wants(event)).map((event) => this.#toWire(event))
    if (wanted.length === 0) return
    const pieces = this.#request.fragment === true ? cut(wanted) : [wanted]
    pieces.forEach((piece, at) => this.#answer({ events: piece, fragment: at < pieces.length - 1 }))
  }

  #wants({ record }: StoredEvent): boolean {
    const filtered = record.version === 0 ? 'Nodelete' : 'Noput'
    return (
      record.modRevision >= this.#next &&
      contains(this.#interval, record.key) &&
      !(this.#request.filters ?? []).includes(filtered)
    )
  }

  #toWire({ record, previous }: StoredEvent): WireEvent {
    return {
      type: record.version === 0 ? 'Delete' : 'Put',
      kv: toWire(record),
      prev_kv: this.#request.prev_kv === true && previous !== null ? toWire(previous) : null,
    }
  }

  #answer(answer: Partial<WatchResponse>): void {
    this.#reader.take({ ...this.#parts.answer(this.#watchId), ...answer })
  }
}

/** A watch without a key watches from the first key on. */
function watchedInterval(request: WatchCreateRequest): Interval {
  return intervalOf(
    request.key === undefined || request.key.length === 0
      ? { ...request, key: Buffer.from([0]) }
      : request,
  )
}

function cut(events: readonly WireEvent[]): readonly (readonly WireEvent[])[] {
  const pieces: WireEvent[][] = []
  let piece: WireEvent[] = []
  let bytes = 0
  for (const event of events) {
    const size = event.kv.key.length + event.kv.value.length + (event.prev_kv?.value.length ?? 0)
    if (piece.length === fragmentEvents || (bytes + size > fragmentBytes && piece.length > 0)) {
      pieces.push(piece)
      piece = []
      bytes = 0
    }
    piece.push(event)
    bytes += size
  }
  pieces.push(piece)
  return pieces
}
