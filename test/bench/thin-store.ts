/**
 * Owns a client of etcd that is as cheap as can be: gRPC's framing and the few messages of a session
 * by hand, and of records only their keys and revisions. A thousand simulated hosts on one machine
 * leave no room for more. What no session asks for is not here.
 */

import { connect, type ClientHttp2Session, type ClientHttp2Stream } from 'node:http2'
import type { IncomingHttpHeaders } from 'node:http'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type {
  CallOptions,
  Entry,
  KeyValue,
  Listing,
  Watch,
  WatchSink,
} from '#shared/store/key-value.ts'
import type { SessionStore } from '#shared/store/session.ts'
import {
  bytes,
  endOf,
  lease,
  leaseOf,
  Listed,
  number,
  operation,
  pagesOf,
  range,
  revisionOf,
  varintOf,
  Watched,
} from './thin-messages.ts'

const kv = '/etcdserverpb.KV/'
const leases = '/etcdserverpb.Lease/'
const pageSize = 1000
const patienceMs = 5000

/** Opens a client. */
export function openThinStore(url: string): SessionStore & Pick<KeyValue, 'close'> {
  const session = connect(url)
  session.on('error', () => {})
  session.setTimeout(0)
  const call = (path: string, message: Buffer, options: CallOptions = {}): Promise<Buffer> =>
    unary(session, path, message, options)
  const listOn = async (
    prefix: string,
    first: string,
    options: CallOptions & { readonly revision?: number },
  ): Promise<Listing> => {
    const entries: Entry[] = []
    let from = first
    let revision = options.revision ?? 0
    for (;;) {
      const request = Buffer.concat(range(prefix, { from, revision, limit: pageSize }))
      const page = new Listed(await call(`${kv}Range`, request, options))
      if (revision === 0) revision = page.revision
      entries.push(...page.entries)
      const last = page.entries.at(-1)
      if (!page.more || last === undefined) return { revision, entries }
      from = `${last.key}\0`
    }
  }
  let watches: ThinWatches | null = null
  return {
    async get(key, options = {}) {
      const { revision = 0 } = options
      const request = [...bytes(1, Buffer.from(key)), ...number(4, revision)]
      const found = new Listed(await call(`${kv}Range`, Buffer.concat(request), options))
      return { revision: found.revision, entry: found.entries[0] ?? null }
    },
    list: (prefix, options = {}) => listOn(prefix, prefix, options),
    async listAll(prefixes, options = {}) {
      const limit = Math.ceil(pageSize / prefixes.length)
      const ranges = prefixes.map((prefix) => range(prefix, { from: prefix, revision: 0, limit }))
      const steps = ranges.flatMap((one) => bytes(2, Buffer.concat(bytes(1, Buffer.concat(one)))))
      const answer = await call(`${kv}Txn`, Buffer.concat(steps), options)
      const revision = revisionOf(answer)
      const entries: Entry[] = []
      for (const [at, page] of pagesOf(answer).entries()) {
        entries.push(...page.entries)
        const [prefix, last] = [prefixes[at], page.entries.at(-1)]
        if (!page.more || prefix === undefined || last === undefined) continue
        entries.push(...(await listOn(prefix, `${last.key}\0`, { ...options, revision })).entries)
      }
      return { revision, entries }
    },
    async count(prefix, options = {}) {
      const request = [
        ...bytes(1, Buffer.from(prefix)),
        ...bytes(2, endOf(prefix)),
        ...number(9, 1),
      ]
      return Number(varintOf(await call(`${kv}Range`, Buffer.concat(request), options), 4))
    },
    watch(prefix, fromRevision, sink) {
      watches ??= new ThinWatches(session)
      return watches.add(prefix, fromRevision, sink)
    },
    async grantLease(ttlMs, options) {
      const question = Buffer.concat(number(1, ttlMs / 1000))
      const granted = leaseOf(await call(`${leases}LeaseGrant`, question, options), 2)
      if (granted === null) throw away('no lease')
      return { lease: granted, ttlMs }
    },
    async keepAlive(id, options) {
      const answer = await call(`${leases}LeaseKeepAlive`, Buffer.concat(lease(1, id)), options)
      const seconds = Number(varintOf(answer, 3))
      if (seconds > 0) return { ttlMs: seconds * 1000 }
      throw new MeshError('the lease is gone', { code: 'store-lease-not-found' })
    },
    async revokeLease(id, options) {
      await call(`${leases}LeaseRevoke`, Buffer.concat(lease(1, id)), options)
    },
    async transact({ success }, options) {
      const steps = success.flatMap((step) => bytes(2, Buffer.concat(operation(step))))
      const answer = await call(`${kv}Txn`, Buffer.concat(steps), options)
      return { revision: revisionOf(answer), succeeded: true, results: [] }
    },
    close: () => session.destroy(),
  }
}

/** All watches of a client, on one stream: see `KeyValue`. */
class ThinWatches {
  readonly #stream: ClientHttp2Stream
  readonly #sinks = new Map<number, WatchSink>()
  #lastId = 0
  #isAsking = false

  constructor(session: ClientHttp2Session) {
    this.#stream = open(session, '/etcdserverpb.Watch/Watch')
    messagesOf(this.#stream, (message) => this.#onMessage(message))
    this.#stream.on('error', (error: Error) => this.#end(error.message))
    this.#stream.on('close', () => this.#end('the watch has ended'))
  }

  add(prefix: string, fromRevision: number, sink: WatchSink): Watch {
    this.#lastId += 1
    const id = this.#lastId
    this.#sinks.set(id, sink)
    const create = [
      ...bytes(1, Buffer.from(prefix)),
      ...bytes(2, endOf(prefix)),
      ...number(3, fromRevision),
      ...number(7, id),
    ]
    this.#write(bytes(1, Buffer.concat(create)))
    return {
      requestProgress: () => this.#ask(),
      cancel: () => {
        if (!this.#sinks.delete(id)) return
        if (this.#sinks.size === 0) this.#stream.destroy()
        else this.#write(bytes(2, Buffer.concat(number(1, id))))
      },
    }
  }

  #ask(): void {
    if (this.#isAsking) return
    this.#isAsking = true
    queueMicrotask(() => {
      this.#isAsking = false
      this.#write(bytes(3, Buffer.alloc(0)))
    })
  }

  #write(request: readonly Buffer[]): void {
    if (!this.#stream.destroyed) this.#stream.write(framed(Buffer.concat(request)))
  }

  #onMessage(message: Buffer): void {
    const { id, isCancelled, events } = Watched.of(message)
    const sink = this.#sinks.get(id)
    if (isCancelled) {
      this.#sinks.delete(id)
      sink?.onEnd(new MeshError('compacted', { code: 'store-compacted' }))
    } else if (events.length > 0) sink?.onEvents(events)
    else if (sink !== undefined) sink.onProgress()
    else for (const each of this.#sinks.values()) each.onProgress()
  }

  #end(reason: string): void {
    const sinks = [...this.#sinks.values()]
    this.#sinks.clear()
    for (const sink of sinks) sink.onEnd(away(reason))
  }
}

// ---- gRPC

function open(session: ClientHttp2Session, path: string): ClientHttp2Stream {
  if (session.destroyed) throw away('the connection has ended')
  return session.request({
    ':method': 'POST',
    ':path': path,
    'content-type': 'application/grpc',
    te: 'trailers',
  })
}

async function unary(
  session: ClientHttp2Session,
  path: string,
  message: Buffer,
  { timeoutMs = patienceMs, signal }: CallOptions,
): Promise<Buffer> {
  signal?.throwIfAborted()
  const stream = open(session, path)
  return new Promise((resolve, reject) => {
    const giveUp = (error: MeshError): void => {
      reject(error)
      stream.destroy()
    }
    const abort = (): void => giveUp(away('given up'))
    const late = new MeshError(`no answer to ${path} in time`, {
      code: 'store-timeout',
      retry: true,
    })
    const timer = setTimeout(() => giveUp(late), timeoutMs)
    signal?.addEventListener('abort', abort)
    messagesOf(stream, (answer) => {
      resolve(answer)
      // A renewal's stream is open for more of them.
      stream.end()
    })
    const fail = (headers: IncomingHttpHeaders): void => {
      const { 'grpc-status': status = '0', 'grpc-message': words = 'no answer' } = headers
      if (status !== '0') reject(refusal(String(words)))
    }
    // A failure with no answer before it comes without trailers.
    stream.on('response', fail)
    stream.on('trailers', fail)
    stream.on('error', (error) => reject(away(error.message)))
    stream.on('close', () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', abort)
      reject(away('no answer'))
    })
    stream.end(framed(message))
  })
}

function refusal(words: string): MeshError {
  const message = decodeURIComponent(words)
  if (message.includes('has been compacted'))
    return new MeshError(message, { code: 'store-compacted' })
  if (message.includes('future revision'))
    return new MeshError(message, { code: 'store-future-revision' })
  if (message.includes('waiting for the applied index'))
    return new MeshError(message, { code: 'store-timeout', retry: true })
  return away(message)
}

function away(message: string): MeshError {
  return new MeshError(message, { code: 'store-unavailable', retry: true })
}

const prefixBytes = 5

function framed(message: Buffer): Buffer {
  const frame = Buffer.alloc(prefixBytes + message.length)
  frame.writeUInt32BE(message.length, 1)
  message.copy(frame, prefixBytes)
  return frame
}

/** Calls back with each message of a stream. */
function messagesOf(stream: ClientHttp2Stream, onMessage: (message: Buffer) => void): void {
  let rest: Buffer = Buffer.alloc(0)
  stream.on('data', (chunk: Buffer) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    while (rest.length >= prefixBytes) {
      const end = prefixBytes + rest.readUInt32BE(1)
      if (rest.length < end) return
      onMessage(rest.subarray(prefixBytes, end))
      rest = rest.subarray(end)
    }
  })
}
