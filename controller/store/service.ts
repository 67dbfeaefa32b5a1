/**
 * Owns the embedded store's gRPC face: etcd's services, each call asked of `access.ts` before the
 * engine sees it. No request of a peer may end the process: whatever a handler throws is answered.
 */

import type { Logger } from '#shared/logging/logger.ts'
import type { HostName } from '#shared/model/names.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import type { grpc } from '#shared/rpc/grpc.ts'
import { loadProto } from '#shared/rpc/grpc.ts'
import type {
  CompactionRequest,
  DeleteRangeRequest,
  LeaseGrantRequest,
  LeaseKeepAliveResponse,
  LeaseRequest,
  PutRequest,
  SnapshotResponse,
  TxnRequest,
  WatchRequest,
  WatchResponse,
} from '#shared/store/wire.ts'
import { WireError } from '#shared/store/wire.ts'
import type { Access, AccessFacts } from './access.ts'
import { accessOf, mayDelete, mayPut, mayRead, mayTransact, mayUseLease } from './access.ts'
import type { Engine } from './engine.ts'
import { refusals } from './refusals.ts'
import { StreamWatches } from './stream-watches.ts'

/** A call as far as telling who made it needs. */
export type IdentifiedCall =
  | grpc.ServerUnaryCall<unknown, unknown>
  | grpc.ServerWritableStream<unknown, unknown>
  | grpc.ServerDuplexStream<unknown, unknown>

/** The caller of a call as proven by mTLS, or null. */
export type Identify = (call: IdentifiedCall) => SpiffeId | null

/** Globs of the services a host may speak for; none for a host that nobody knows. */
export type HostServices = AccessFacts['hostServices']

/** Collaborators of the service. */
export interface ServiceParts {
  readonly engine: Engine
  readonly identify: Identify
  readonly hostServices: HostServices
  readonly logger: Logger
}

const statusInternal = 13

/** Adds etcd's services to a server. */
export function serveStore(parts: ServiceParts, server: grpc.Server): void {
  const services = loadProto(new URL('etcd.proto', import.meta.url), {
    keepCase: true,
    longs: String,
  })
  const add = (name: string, handlers: grpc.UntypedServiceImplementation): void => {
    const definition = services[`etcdserverpb.${name}`]
    if (definition === undefined) throw new TypeError(`etcd.proto has no service ${name}`)
    server.addService(definition, handlers)
  }
  const { engine } = parts
  const facts: AccessFacts = {
    leaseOwner: (lease) => engine.leaseOwner(lease),
    hostServices: parts.hostServices,
  }
  const mayUse = (access: Access, request: LeaseRequest): boolean =>
    mayUseLease(access, request.ID ?? '0', facts)
  const anyone = (access: Access): boolean => access.kind !== 'nothing'
  const everything = (access: Access): boolean => access.kind === 'everything'
  add('KV', {
    Range: unary(parts, mayRead, (request) => engine.range(request)),
    Put: unary(
      parts,
      (access, request: PutRequest) => mayPut(access, request, facts),
      (request, access) => engine.put(request, undefined, hostOf(access)),
    ),
    DeleteRange: unary(parts, mayDelete, (request: DeleteRangeRequest, access) =>
      engine.deleteRange(request, undefined, hostOf(access)),
    ),
    Txn: unary(
      parts,
      (access, request: TxnRequest) => mayTransact(access, request, facts),
      (request, access) => engine.txn(request, undefined, hostOf(access)),
    ),
    Compact: unary(parts, everything, (request: CompactionRequest) => engine.compact(request)),
  })
  add('Lease', {
    LeaseGrant: unary(parts, anyone, (request: LeaseGrantRequest, access) =>
      engine.leaseGrant(
        request,
        undefined,
        access.kind === 'nothing' ? '' : access.id,
        access.kind === 'host',
      ),
    ),
    LeaseRevoke: unary(parts, mayUse, (request) => engine.leaseRevoke(request)),
    LeaseTimeToLive: unary(parts, mayUse, (request) => engine.leaseTimeToLive(request)),
    LeaseKeepAlive: keepAlive(parts, mayUse),
    LeaseLeases: unary(parts, everything, () => engine.leaseLeases()),
  })
  add('Watch', { Watch: watch(parts) })
  add('Maintenance', {
    Status: unary(parts, anyone, () => engine.status()),
    Snapshot: snapshot(parts, everything),
  })
}

function hostOf(access: Access): HostName | null {
  return access.kind === 'host' ? access.host : null
}

function unary<Request, Response>(
  parts: ServiceParts,
  allowed: (access: Access, request: Request) => boolean,
  run: (request: Request, access: Access) => Promise<Response>,
): grpc.handleUnaryCall<Request, Response> {
  const handle = async (
    call: grpc.ServerUnaryCall<Request, Response>,
    callback: grpc.sendUnaryData<Response>,
  ): Promise<void> => {
    let response: Response
    try {
      const access = accessFor(parts, call)
      if (!allowed(access, call.request)) throw refusals.denied()
      response = await run(call.request, access)
    } catch (error) {
      callback(toStatus(parts, error))
      return
    }
    callback(null, response)
  }
  return (call, callback) => void handle(call, callback)
}

function snapshot(
  parts: ServiceParts,
  allowed: (access: Access) => boolean,
): grpc.handleServerStreamingCall<unknown, SnapshotResponse> {
  const handle = async (
    call: grpc.ServerWritableStream<unknown, SnapshotResponse>,
  ): Promise<void> => {
    try {
      if (!allowed(accessFor(parts, call))) throw refusals.denied()
      for await (const piece of parts.engine.snapshot()) {
        if (call.cancelled) return
        if (!call.write(piece)) await roomIn(call)
      }
      call.end()
    } catch (error) {
      call.emit('error', toStatus(parts, error))
    }
  }
  return (call) => void handle(call)
}

/** Settles when a stream takes more, or is over. */
function roomIn(call: {
  on(event: string, listener: () => void): unknown
  off(event: string, listener: () => void): unknown
}): Promise<void> {
  const events = ['drain', 'cancelled', 'close', 'error']
  return new Promise((resolve) => {
    const done = (): void => {
      for (const event of events) call.off(event, done)
      resolve()
    }
    for (const event of events) call.on(event, done)
  })
}

function keepAlive(
  parts: ServiceParts,
  allowed: (access: Access, request: LeaseRequest) => boolean,
): grpc.handleBidiStreamingCall<LeaseRequest, LeaseKeepAliveResponse> {
  return (call) => {
    const stream: GuardedStream = guard(parts, call, async (request) => {
      if (!allowed(stream.access, request)) throw refusals.denied()
      const response = await parts.engine.leaseKeepAlive(request)
      if (stream.open) call.write(response)
    })
  }
}

function watch(parts: ServiceParts): grpc.handleBidiStreamingCall<WatchRequest, WatchResponse> {
  return (call) => {
    const watches = new StreamWatches({
      engine: parts.engine,
      mayRead: (request) => mayRead(stream.access, request),
      write: (response) => !stream.open || call.write(response),
    })
    const stream: GuardedStream = guard(
      parts,
      call,
      async (request) => watches.handle(request),
      () => watches.close(),
    )
    call.on('drain', () => watches.resume())
  }
}

interface GuardedStream {
  readonly access: Access
  readonly open: boolean
}

/**
 * Handles a stream's messages one after the other, ends it when its client does or when handling
 * throws, exactly once, and then cleans up.
 */
function guard<Request, Response>(
  parts: ServiceParts,
  call: grpc.ServerDuplexStream<Request, Response>,
  handle: (request: Request) => Promise<void>,
  cleanUp: () => void = () => {},
): GuardedStream {
  let open = true
  const over = (): boolean => {
    const first = open
    open = false
    if (first) cleanUp()
    return first
  }
  const fail = (error: unknown): void => {
    if (over()) call.emit('error', toStatus(parts, error))
  }
  const take = async (request: Request): Promise<void> => {
    try {
      if (open) await handle(request)
      // Nobody piles up answers by not reading them.
      if (open && call.writableNeedDrain) await roomIn(call)
    } catch (error) {
      fail(error)
    }
    call.resume()
  }
  let last = Promise.resolve()
  call.on('data', (request: Request) => {
    call.pause()
    last = take(request)
  })
  // A pause holds no end back that had come before it.
  call.on('end', () => void last.then(() => over() && call.end()))
  call.on('cancelled', over)
  call.on('error', over)
  call.on('close', over)
  return {
    access: accessFor(parts, call),
    get open() {
      return open
    },
  }
}

function accessFor(parts: ServiceParts, call: IdentifiedCall): Access {
  try {
    return accessOf(parts.identify(call))
  } catch (error) {
    parts.logger.error({ err: error }, 'store: a caller could not be identified')
    return { kind: 'nothing' }
  }
}

function toStatus(
  parts: ServiceParts,
  error: unknown,
): { readonly code: number; readonly details: string } {
  if (error instanceof WireError) return { code: error.code, details: error.message }
  parts.logger.error({ err: error }, 'store: a request failed')
  return { code: statusInternal, details: 'etcdserver: internal error' }
}
