/**
 * Owns how a service of `mesh.proto` is put on a gRPC server: handlers take a request and a caller
 * proven by the connection, and answer a value or a refusal. The one place that turns refusals and
 * failures into gRPC statuses; it decides nothing else.
 */

import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import { grpc } from './grpc.ts'
import type { MethodKey, ReplyOf, RequestOf, ServiceKey } from './mesh-api.ts'
import { definitionOf } from './mesh-api.ts'

/** Who calls. */
export interface Caller {
  /** Proven by mTLS; null on the server that takes callers without a certificate. */
  readonly id: SpiffeId | null
  /** IP address and port, for logs and limits. */
  readonly address: string
}

/** What kind of refusal, which decides the gRPC status. */
export type RefusalKind =
  'bad-request' | 'unauthenticated' | 'denied' | 'overloaded' | 'unavailable'

/** Why a call is not answered. */
export interface Refusal {
  readonly kind: RefusalKind
  /** Stable, lower case with hyphens; clients branch on it. */
  readonly code: string
  /** What, why, and what to do. */
  readonly message: string
}

/** What a handler answers. */
export type Answer<Reply> =
  { readonly ok: true; readonly value: Reply } | { readonly ok: false; readonly refusal: Refusal }

/** One handler for every method of a service. */
export type Handlers<S extends ServiceKey> = {
  readonly [M in MethodKey<S>]: (
    request: RequestOf<S, M>,
    caller: Caller,
  ) => Promise<Answer<ReplyOf<S, M>>>
}

/** The metadata key that carries a refusal's code. */
export const codeKey = 'mesh-code'

const statuses: Readonly<Record<RefusalKind, grpc.status>> = {
  'bad-request': grpc.status.INVALID_ARGUMENT,
  unauthenticated: grpc.status.UNAUTHENTICATED,
  denied: grpc.status.PERMISSION_DENIED,
  overloaded: grpc.status.RESOURCE_EXHAUSTED,
  unavailable: grpc.status.UNAVAILABLE,
}

const maxMessage = 1000

/** A handler's refusal. */
export function refuse(
  kind: RefusalKind,
  code: string,
  message: string,
): { readonly ok: false; readonly refusal: Refusal } {
  return { ok: false, refusal: { kind, code, message } }
}

/** What a service leans on. */
export interface ApiServiceParts {
  readonly identify: (call: grpc.ServerUnaryCall<unknown, unknown>) => SpiffeId | null
  /** Why a caller who proved itself is refused whatever it asks, or an empty string. */
  readonly refusalOf?: (call: grpc.ServerUnaryCall<unknown, unknown>) => string
  readonly logger: Logger
  /** Told how each call ended: `ok`, or the refusal's code. */
  readonly onAnswer?: (method: string, code: string) => void
}

/** Puts a service on `server`. */
export function addApiService<S extends ServiceKey>(
  server: grpc.Server,
  service: S,
  handlers: Handlers<S>,
  parts: ApiServiceParts,
): void {
  const implementation: grpc.UntypedServiceImplementation = {}
  for (const method of Object.keys(handlers) as MethodKey<S>[]) {
    const handler = handlers[method]
    implementation[method] = (
      call: grpc.ServerUnaryCall<RequestOf<S, typeof method>, unknown>,
      done: grpc.sendUnaryData<unknown>,
    ) => {
      const caller = { id: parts.identify(call), address: call.getPeer() }
      const failed = (error: unknown): Answer<never> => ({
        ok: false,
        refusal: refusalOf(error, `${service}.${method}`, parts.logger),
      })
      const banned = parts.refusalOf?.(call) ?? ''
      void settle(
        () =>
          banned === ''
            ? handler(call.request, caller)
            : Promise.resolve(refuse('denied', 'banned', banned)),
        failed,
        (answer) => {
          parts.onAnswer?.(method, answer.ok ? 'ok' : answer.refusal.code)
          if (answer.ok) done(null, answer.value)
          else done(statusOf(answer.refusal))
        },
      )
    }
  }
  server.addService(definitionOf(service), implementation)
}

async function settle<Reply>(
  run: () => Promise<Answer<Reply>>,
  failed: (error: unknown) => Answer<never>,
  done: (answer: Answer<Reply>) => void,
): Promise<void> {
  done(await run().catch(failed))
}

function refusalOf(error: unknown, method: string, logger: Logger): Refusal {
  const known = error instanceof MeshError
  if (known) logger.warn({ err: error, method }, 'a call failed')
  else logger.error({ err: error, method }, 'a call failed on a bug')
  return {
    kind: 'unavailable',
    code: known ? error.code : 'internal',
    message: known
      ? `the controller could not do this now: ${messageOf(error)}`
      : 'the controller failed on a fault of its own; its log says more',
  }
}

function statusOf(refusal: Refusal): Partial<grpc.StatusObject> {
  const metadata = new grpc.Metadata()
  metadata.set(codeKey, refusal.code)
  return {
    code: refusal.code === 'internal' ? grpc.status.INTERNAL : statuses[refusal.kind],
    details: refusal.message.slice(0, maxMessage),
    metadata,
  }
}
