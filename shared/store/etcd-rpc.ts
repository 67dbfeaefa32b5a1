/**
 * Owns the etcd client; home of etcd3. Only etcd3's plain calls and streams are used: its watcher
 * dies on compaction and never recovers from a denied watch, its leases are never granted again,
 * and its retries repeat writes. What it lacks, `session.ts` has.
 */

import { Etcd3 } from 'etcd3'
import type { IOptions, ITxnRequest } from 'etcd3'
import type { Clock, Random } from '#shared/lifecycle/clock.ts'
import { readWireError } from './failures.ts'
import { OwnSockets } from './own-sockets.ts'
import { WatchStream } from './watch-stream.ts'
import type { RawWatchStream } from './watch-stream.ts'
import type {
  CompactionRequest,
  DeleteRangeRequest,
  DeleteRangeResponse,
  EtcdRpc,
  HeaderResponse,
  LeaseGrantRequest,
  LeaseGrantResponse,
  LeaseKeepAliveResponse,
  LeaseLeasesResponse,
  LeaseRequest,
  LeaseTimeToLiveRequest,
  LeaseTimeToLiveResponse,
  PutRequest,
  PutResponse,
  RangeRequest,
  RangeResponse,
  RpcOptions,
  RpcWatch,
  RpcWatchSink,
  SnapshotResponse,
  StatusResponse,
  TxnRequest,
  TxnResponse,
  WatchCreateRequest,
} from './wire.ts'
import { WireError } from './wire.ts'

/** How to prove who we are to the store, and how the store proves itself. */
export interface StoreTls {
  /** Roots the store's certificate must chain to, PEM. */
  readonly rootPem: string
  /** Our certificate, leaf first, PEM. */
  readonly chainPem: string
  /** Its key, PEM. */
  readonly keyPem: string
  /** The DNS name the store's certificate must carry. */
  readonly serverName: string
}

/** Settings of an etcd client. */
export interface EtcdSettings {
  /** `http://host:port` or `https://host:port`; one is used at a time, the next after a failure. */
  readonly endpoints: readonly string[]
  /** Which of them is the first, counted on beyond their end. @default any */
  readonly turn?: number
  /** For `https:` endpoints; as a function it is asked at each connection, for what is renewed. */
  readonly tls?: StoreTls | (() => StoreTls)
  /** Longest wait for an answer. @default 5000 */
  readonly timeoutMs?: number
}

const statusUnavailable = 14
const statusDeadline = 4

/**
 * A server is found stalled within `keepalive_time_ms` + `keepalive_timeout_ms`. etcd punishes pings
 * that come more often than every 5 s, or without a call, with a closed connection.
 */
const channel = {
  'grpc.keepalive_time_ms': 6000,
  'grpc.keepalive_timeout_ms': 3000,
  'grpc.initial_reconnect_backoff_ms': 200,
  'grpc.max_reconnect_backoff_ms': 2000,
  'grpc.max_receive_message_length': 64 * 1024 * 1024,
} as const

/**
 * Told apart by a channel option of our own: grpc-js shares connections between clients whose
 * options and credentials are equal, and ours end their own.
 */
let clients = 0

/** When a call is given up, milliseconds since the epoch. */
export interface CallDeadline {
  readonly deadline: number
}

interface Connection {
  readonly client: Etcd3
  readonly sockets: OwnSockets
}

type Policy = NonNullable<NonNullable<IOptions['faultHandling']>['global']>

/** No retries and no circuit breaker: a failed call fails. */
const once = {
  execute: async (run: (context: { signal: AbortSignal }) => unknown) =>
    run({ signal: new AbortController().signal }),
} as unknown as Policy

/** How long a call to etcd's administration may take, milliseconds. */
const administerMs = 30_000

/** See the header. Nothing is connected until the first call. */
export class Etcd3Rpc implements EtcdRpc {
  readonly #clock: Clock
  readonly #settings: EtcdSettings
  #connection: Connection | null = null
  /** The stream of all watches on that connection. */
  #watching: WatchStream | null = null
  #endpoint: number
  #closed = false

  constructor(parts: { readonly clock: Clock; readonly random: Random }, settings: EtcdSettings) {
    this.#clock = parts.clock
    this.#settings = settings
    const { turn, endpoints } = settings
    this.#endpoint = turn ?? Math.floor(parts.random.fraction() * endpoints.length)
  }

  range(request: RangeRequest, options: RpcOptions): Promise<RangeResponse> {
    return this.#unary((client) => client.kv.range(request, this.#deadline(options)))
  }

  put(request: PutRequest, options: RpcOptions): Promise<PutResponse> {
    return this.#unary((client) => client.kv.put(request, this.#deadline(options)))
  }

  deleteRange(request: DeleteRangeRequest, options: RpcOptions): Promise<DeleteRangeResponse> {
    return this.#unary((client) => client.kv.deleteRange(request, this.#deadline(options)))
  }

  txn(request: TxnRequest, options: RpcOptions): Promise<TxnResponse> {
    return this.#unary((client) => client.kv.txn(request as ITxnRequest, this.#deadline(options)))
  }

  compact(request: CompactionRequest, options: RpcOptions): Promise<HeaderResponse> {
    return this.#unary((client) => client.kv.compact(request, this.#deadline(options)))
  }

  leaseGrant(request: LeaseGrantRequest, options: RpcOptions): Promise<LeaseGrantResponse> {
    return this.#unary((client) => client.leaseClient.leaseGrant(request, this.#deadline(options)))
  }

  leaseRevoke(request: LeaseRequest, options: RpcOptions): Promise<HeaderResponse> {
    return this.#unary((client) => client.leaseClient.leaseRevoke(request, this.#deadline(options)))
  }

  leaseKeepAlive(request: LeaseRequest, options: RpcOptions): Promise<LeaseKeepAliveResponse> {
    return this.#unary(async (client) => {
      const stream = await client.leaseClient.leaseKeepAlive(this.#deadline(options))
      return new Promise<LeaseKeepAliveResponse>((resolve, reject) => {
        stream.on('error', reject)
        stream.on('end', () => reject(new WireError(statusUnavailable, 'the stream ended')))
        stream.on('data', (response) => {
          resolve(response)
          stream.end()
        })
        stream.write(request)
      })
    })
  }

  leaseTimeToLive(
    request: LeaseTimeToLiveRequest,
    options: RpcOptions,
  ): Promise<LeaseTimeToLiveResponse> {
    return this.#unary((client) =>
      client.leaseClient.leaseTimeToLive(request, this.#deadline(options)),
    )
  }

  leaseLeases(options: RpcOptions): Promise<LeaseLeasesResponse> {
    return this.#unary((client) => client.leaseClient.leaseLeases(this.#deadline(options)))
  }

  status(options: RpcOptions): Promise<StatusResponse> {
    // etcd3's types lack the members of newer servers; the proto it loads has them.
    return this.#unary(
      (client) => client.maintenance.status(this.#deadline(options)) as Promise<unknown>,
    ) as Promise<StatusResponse>
  }

  async *snapshot(options: RpcOptions): AsyncIterable<SnapshotResponse> {
    const connection = this.#connected()
    try {
      const stream = await use(connection, (client) =>
        client.maintenance.snapshot(this.#deadline(options)),
      )
      // A stream of gRPC is one of Node's, which etcd3's type does not tell.
      yield* stream as unknown as AsyncIterable<SnapshotResponse>
    } catch (error) {
      this.#failed(connection, error)
      throw error
    }
  }

  watch(request: WatchCreateRequest, sink: RpcWatchSink): RpcWatch {
    this.#watching ??= this.#openWatching()
    return this.#watching.add(request, sink)
  }

  /**
   * Calls to etcd's user and role administration, for `etcd-auth.ts`. An etcd hashes passwords slowly
   * on purpose, and a crowded machine is slower still: nobody's lease waits for these.
   */
  administer<T>(run: (auth: Etcd3['auth'], options: CallDeadline) => Promise<T>): Promise<T> {
    const timeoutMs = Math.max(administerMs, this.#settings.timeoutMs ?? 0)
    return this.#unary((client) => run(client.auth, this.#deadline({ timeoutMs })))
  }

  /** Connects anew, with a credential that was renewed; calls under way may finish. */
  renew(): void {
    const connection = this.#leave()
    if (connection === null) return
    this.#clock.after(this.#settings.timeoutMs ?? 5000, () => end(connection))
  }

  close(): void {
    this.#closed = true
    this.#disconnect()
  }

  async #unary<T>(run: (client: Etcd3) => Promise<T>): Promise<T> {
    const connection = this.#connected()
    try {
      return await use(connection, run)
    } catch (error) {
      this.#failed(connection, error)
      throw error
    }
  }

  #openWatching(): WatchStream {
    let connection: Connection | null = null
    const watching = new WatchStream({
      open: async () => {
        connection = this.#connected()
        // The messages are those that etcd3 itself reads and writes; its types are looser.
        return use(connection, (client) =>
          client.watchClient.watch(),
        ) as Promise<unknown> as Promise<RawWatchStream>
      },
      onOver: (error) => {
        if (this.#watching === watching) this.#watching = null
        if (error !== null && connection !== null) this.#failed(connection, error)
      },
    })
    return watching
  }

  #deadline(options: RpcOptions): CallDeadline {
    return { deadline: this.#clock.now() + options.timeoutMs }
  }

  #connected(): Connection {
    this.#connection ??= this.#connect()
    return this.#connection
  }

  #connect(): Connection {
    if (this.#closed) throw new WireError(statusUnavailable, 'this client is closed')
    const { endpoints } = this.#settings
    const tls = typeof this.#settings.tls === 'function' ? this.#settings.tls() : this.#settings.tls
    const endpoint = endpoints[this.#endpoint % endpoints.length]
    if (endpoint === undefined) throw new WireError(statusUnavailable, 'no endpoint is configured')
    clients += 1
    const grpcOptions = { ...channel, 'hostmesh.client': clients }
    const client = new Etcd3({
      hosts: endpoint,
      faultHandling: { global: once, host: () => once },
      ...(tls === undefined || endpoint.startsWith('http://')
        ? { grpcOptions }
        : {
            credentials: {
              rootCertificate: Buffer.from(tls.rootPem),
              certChain: Buffer.from(tls.chainPem),
              privateKey: Buffer.from(tls.keyPem),
            },
            grpcOptions: {
              ...grpcOptions,
              'grpc.ssl_target_name_override': tls.serverName,
              'grpc.default_authority': tls.serverName,
            },
          }),
    })
    return { client, sockets: new OwnSockets({ clock: this.#clock }) }
  }

  /**
   * A server that is gone or hangs is left: the next call opens a new connection to the next one.
   * What fails on a connection that was left already says nothing of the one in use.
   */
  #failed(connection: Connection, error: unknown): void {
    const { code } = readWireError(error)
    if (connection !== this.#connection) return
    if (code !== statusUnavailable && code !== statusDeadline) return
    this.#endpoint += 1
    this.#disconnect()
  }

  #disconnect(): void {
    const connection = this.#leave()
    if (connection !== null) end(connection)
  }

  /** What comes next gets a new connection; answers the one so far. */
  #leave(): Connection | null {
    const connection = this.#connection
    this.#connection = null
    this.#watching = null
    return connection
  }
}

function use<T>({ client, sockets }: Connection, run: (client: Etcd3) => Promise<T>): Promise<T> {
  return sockets.run(() => run(client))
}

function end({ client, sockets }: Connection): void {
  client.close()
  sockets.destroy()
}
