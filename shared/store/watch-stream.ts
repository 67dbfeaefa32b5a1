/**
 * Owns one Watch stream of gRPC and every watch of a client on it: a server pays for a stream what
 * it pays for hundreds of watches. Ids are ours and never 0: etcd 3.4 answers a denied watch under
 * the id that was asked for, and would drop the watch that has it. What ends the stream ends all of
 * them; what ends one of them ends no other.
 */

import type {
  RpcWatch,
  RpcWatchSink,
  WatchCreateRequest,
  WatchRequest,
  WatchResponse,
} from './wire.ts'
import { everyWatch, WireError } from './wire.ts'

/** The stream, as etcd3 opens it. */
export interface RawWatchStream {
  write(request: WatchRequest): unknown
  end(): void
  cancel(): void
  on(event: 'data', listener: (response: WatchResponse) => void): unknown
  on(event: 'error', listener: (error: unknown) => void): unknown
  on(event: 'end', listener: () => void): unknown
}

/** Collaborators of a stream. */
export interface WatchStreamParts {
  /** Called once, at once. */
  readonly open: () => Promise<RawWatchStream>
  /** The stream takes no more watches: it failed, or (null) its last watch is over. Called once. */
  readonly onOver: (error: unknown) => void
}

interface Watched {
  readonly sink: RpcWatchSink
  isCreated: boolean
}

const statusUnavailable = 14

/** See the header. */
export class WatchStream {
  readonly #parts: WatchStreamParts
  readonly #watches = new Map<string, Watched>()
  /** Ids whose creation was asked for and not answered, in that order: so they are answered. */
  readonly #creating: string[] = []
  #stream: RawWatchStream | null = null
  #outbox: WatchRequest[] = []
  #isFlushing = false
  #isAsking = false
  #isOver = false
  #lastId = 0

  constructor(parts: WatchStreamParts) {
    this.#parts = parts
    parts.open().then(
      (stream) => this.#opened(stream),
      (error: unknown) => this.#end(error),
    )
  }

  /** Adds a watch; its sink is not called before this has returned. Not after `onOver`. */
  add(request: WatchCreateRequest, sink: RpcWatchSink): RpcWatch {
    this.#lastId += 1
    const id = String(this.#lastId)
    this.#watches.set(id, { sink, isCreated: false })
    this.#creating.push(id)
    this.#send({ create_request: { ...request, watch_id: id } })
    return {
      requestProgress: () => this.#ask(),
      cancel: () => {
        if (!this.#watches.has(id)) return
        this.#remove(id)
        this.#send({ cancel_request: { watch_id: id } })
      },
    }
  }

  #opened(stream: RawWatchStream): void {
    stream.on('error', (error) => this.#end(error))
    stream.on('end', () => this.#end(new WireError(statusUnavailable, 'the stream ended')))
    stream.on('data', (response) => this.#onResponse(response))
    if (this.#isOver) {
      cancelQuietly(stream)
      return
    }
    this.#stream = stream
    this.#flush()
  }

  #onResponse(response: WatchResponse): void {
    if (this.#isOver) return
    const { watch_id: id } = response
    if (response.created) {
      this.#onCreated(response)
    } else if (id === everyWatch) {
      for (const { sink, isCreated } of this.#watches.values()) {
        if (isCreated) sink.onResponse(response)
      }
    } else {
      // None: it was cancelled, and the server did not know that yet.
      const watched = this.#watches.get(id)
      if (response.canceled) this.#forget(id, response)
      watched?.sink.onResponse(response)
    }
  }

  #onCreated(response: WatchResponse): void {
    const id = this.#creating.shift()
    const watched = id === undefined ? undefined : this.#watches.get(id)
    if (id !== undefined && response.canceled) {
      this.#remove(id)
    } else if (response.watch_id !== id) {
      const words = `the server calls watch ${id} ${response.watch_id}: is it etcd 3.4 or newer?`
      this.#end(new WireError(statusUnavailable, words))
      return
    } else if (watched !== undefined) {
      watched.isCreated = true
    }
    watched?.sink.onResponse(response)
  }

  /** One question is enough for all who ask in one go. */
  #ask(): void {
    if (this.#isAsking) return
    this.#isAsking = true
    this.#send({ progress_request: {} })
  }

  #send(request: WatchRequest): void {
    if (this.#isOver) return
    this.#outbox.push(request)
    if (this.#stream === null || this.#isFlushing) return
    this.#isFlushing = true
    queueMicrotask(() => this.#flush())
  }

  #flush(): void {
    const outbox = this.#outbox
    this.#outbox = []
    this.#isFlushing = false
    this.#isAsking = false
    if (this.#isOver) return
    for (const request of outbox) this.#stream?.write(request)
  }

  /** Of a watch that a compaction ended etcd tells the progress of all the others only once it is cancelled, too. */
  #forget(id: string, { compact_revision: compacted }: WatchResponse): void {
    if (!this.#watches.has(id)) return
    this.#remove(id)
    if (compacted !== '0') this.#send({ cancel_request: { watch_id: id } })
  }

  #remove(id: string): void {
    this.#watches.delete(id)
    if (this.#watches.size === 0) this.#end(null)
  }

  #end(error: unknown): void {
    if (this.#isOver) return
    this.#isOver = true
    if (this.#stream !== null) cancelQuietly(this.#stream)
    const watches = [...this.#watches.values()]
    this.#watches.clear()
    this.#parts.onOver(error)
    for (const { sink } of watches) sink.onEnd(error)
  }
}

/** Half-closed first, because etcd3 takes the failure of a writable stream for the server's. */
function cancelQuietly(stream: RawWatchStream): void {
  stream.end()
  stream.cancel()
}
