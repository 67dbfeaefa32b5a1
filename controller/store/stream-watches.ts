/**
 * Owns the watches on one stream, as etcd does: they come, are refused and end one by one, and share
 * the reader. While that is slow nothing is written for any of them, and then whoever waited longest
 * goes first. What carries the stream is not its business.
 */

import type { WatchCreateRequest, WatchRequest, WatchResponse } from '#shared/store/wire.ts'
import { everyWatch } from '#shared/store/wire.ts'
import type { Engine } from './engine.ts'
import type { HubWatch, Reader } from './watch-hub.ts'

/** Collaborators of a stream's watches. */
export interface StreamWatchesParts {
  readonly engine: Pick<Engine, 'openWatch' | 'watchAnswer'>
  readonly mayRead: (request: WatchCreateRequest) => boolean
  /** Takes an answer. False: no more until `resume`. */
  readonly write: (response: WatchResponse) => boolean
}

/** More than a host has services in use. */
const mostWatches = 10_000
const deniedReason = 'rpc error: code = PermissionDenied desc = etcdserver: permission denied'
const noUpperBound = Buffer.from([0])

/** See the header. */
export class StreamWatches {
  readonly #parts: StreamWatchesParts
  /** Who had its turn last is the last. */
  readonly #watches = new Map<string, HubWatch>()
  #isReady = true
  #lastId = -1

  constructor(parts: StreamWatchesParts) {
    this.#parts = parts
  }

  /** Does what the client asks for. */
  handle(request: WatchRequest): void {
    if (request.create_request) this.#create(request.create_request)
    else if (request.cancel_request) this.#cancel(request.cancel_request.watch_id ?? '0')
    else if (this.#watches.values().every(({ current }) => current)) this.#answer(everyWatch, {})
  }

  /** The stream takes more. */
  resume(): void {
    this.#isReady = true
    const behind = Array.from(this.#watches).filter(([, { current }]) => !current)
    for (const [id, watch] of behind) {
      if (!this.#isReady) return
      this.#watches.delete(id)
      this.#watches.set(id, watch)
      watch.resume()
    }
  }

  /** Ends all of them; nothing is written any more. */
  close(): void {
    for (const watch of this.#watches.values()) watch.cancel()
    this.#watches.clear()
  }

  #create(request: WatchCreateRequest): void {
    const asked = request.watch_id ?? '0'
    const refuse = (reason: string): void =>
      this.#answer(everyWatch, { created: true, canceled: true, cancel_reason: reason })
    if (!this.#parts.mayRead(request)) refuse(deniedReason)
    else if (isEmpty(request)) refuse('mvcc: watcher range is empty')
    else if (this.#watches.size >= mostWatches) refuse('etcdserver: too many watches')
    else if (asked !== '0' && this.#watches.has(asked)) {
      refuse('mvcc: duplicate watch ID provided on the WatchStream')
    } else {
      const id = asked === '0' ? this.#nextId() : asked
      this.#answer(id, { created: true })
      this.#watches.set(id, this.#parts.engine.openWatch(request, id, this.#readerOf(id)))
    }
  }

  #readerOf(id: string): Reader {
    const isReady = (): boolean => this.#isReady
    return {
      get isReady() {
        return isReady()
      },
      take: (response) => {
        if (response.canceled) this.#watches.delete(id)
        this.#write(response)
      },
    }
  }

  #cancel(id: string): void {
    const watch = this.#watches.get(id)
    if (watch === undefined) return
    watch.cancel()
    this.#watches.delete(id)
    this.#answer(id, { canceled: true })
  }

  #nextId(): string {
    do this.#lastId += 1
    while (this.#watches.has(String(this.#lastId)))
    return String(this.#lastId)
  }

  #answer(watchId: string, fields: Partial<WatchResponse>): void {
    this.#write({ ...this.#parts.engine.watchAnswer(watchId), ...fields })
  }

  #write(response: WatchResponse): void {
    if (!this.#parts.write(response)) this.#isReady = false
  }
}

function isEmpty({ key, range_end: end }: WatchCreateRequest): boolean {
  if (key === undefined || end === undefined || end.length === 0) return false
  return !end.equals(noUpperBound) && Buffer.compare(key, end) >= 0
}
