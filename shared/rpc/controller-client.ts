/**
 * Owns the client of a controller's API: one channel, typed calls, a deadline on each, and failures
 * as MeshErrors that say what the controller said. Whom it trusts is its credentials' matter.
 */

import type { SecureContext } from 'node:tls'
import { createSecureContext } from 'node:tls'
import type { Clock } from '#shared/lifecycle/clock.ts'
import { connectWords } from '#shared/lifecycle/connect-words.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import { codeKey } from './api-service.ts'
import { grpc } from './grpc.ts'
import type { MethodKey, ReplyOf, RequestOf, ServiceKey } from './mesh-api.ts'
import { definitionOf } from './mesh-api.ts'
import type { ExpectedPeer, RefusalOf } from './peer-check.ts'
import { channelCredentials } from './peer-check.ts'

/** What a client proves itself with, and whom it trusts. */
export interface ClientCredential {
  /** Leaf first; absent with `keyPem` for a client that has no certificate yet. */
  readonly chainPem?: string
  readonly keyPem?: string
  readonly bundlePem: string
}

/** Settings of a client. */
export interface ControllerClientSettings {
  /** `host:port`. */
  readonly address: string
  /** How long a call may take, connecting included. @default 10_000 */
  readonly deadlineMs?: number
}

/** What goes through the whole store takes as long as there are keys and hosts. */
const slow: ReadonlySet<string> = new Set<MethodKey<'StoreOperations'>>([
  'InitStore',
  'MigrateStore',
])
const slowMs = 600_000

const serverName = 'mesh-controller'

/** One channel to one controller. Cheap to make; close it. */
export class ControllerClient {
  readonly #clock: Clock
  readonly #client: grpc.Client
  readonly #address: string
  readonly #deadlineMs: number
  readonly #pending = new Set<grpc.ClientUnaryCall>()

  constructor(
    parts: {
      readonly clock: Clock
      readonly credential: ClientCredential
      readonly expected: ExpectedPeer
      /** Whom not to talk to though it is the expected one: bans. */
      readonly refusalOf?: RefusalOf
    },
    settings: ControllerClientSettings,
  ) {
    this.#clock = parts.clock
    const context = contextOf(parts.credential)
    const credentials = channelCredentials(context, parts.expected, parts.refusalOf)
    this.#client = new grpc.Client(`dns:${settings.address}`, credentials, {
      // The server looks at no SNI; without a name gRPC would send the address, which Node refuses.
      'grpc.ssl_target_name_override': serverName,
      'grpc.enable_http_proxy': 0,
      'grpc.enable_retries': 0,
      'grpc.service_config_disable_resolution': 1,
      'grpc.use_local_subchannel_pool': 1,
      'grpc.keepalive_time_ms': 20_000,
      'grpc.keepalive_timeout_ms': 5_000,
      'grpc.max_receive_message_length': 8 * 1024 * 1024,
      'grpc.enable_channelz': 0,
    })
    this.#address = settings.address
    this.#deadlineMs = settings.deadlineMs ?? 10_000
  }

  /** Calls a method. Throws MeshError with the controller's code, or `controller-unavailable`. */
  call<S extends ServiceKey, M extends MethodKey<S>>(
    service: S,
    method: M,
    request: RequestOf<S, M>,
  ): Promise<ReplyOf<S, M>> {
    const definition = definitionOf(service)[method]
    if (definition === undefined) throw new TypeError(`mesh.proto has no ${service}.${method}`)
    return new Promise((resolve, reject) => {
      const call = this.#client.makeUnaryRequest<RequestOf<S, M>, ReplyOf<S, M>>(
        definition.path,
        definition.requestSerialize,
        definition.responseDeserialize,
        request,
        new grpc.Metadata(),
        { deadline: this.#clock.now() + (slow.has(method) ? slowMs : this.#deadlineMs) },
        (error, reply) => {
          this.#pending.delete(call)
          if (error !== null) reject(this.#failure(error))
          else if (reply !== undefined) resolve(reply)
        },
      )
      this.#pending.add(call)
    })
  }

  /** Ends the channel and every call on it. */
  close(): void {
    for (const call of this.#pending) call.cancel()
    this.#client.close()
  }

  #failure(error: grpc.ServiceError): MeshError {
    const [code] = error.metadata?.get(codeKey) ?? []
    if (typeof code === 'string') {
      const retry = retryable.has(error.code)
      return new MeshError(error.details, { code, retry, cause: error })
    }
    const known = failures.get(error.code)
    return new MeshError(`controller ${this.#address}: ${connectWords(error.details)}`, {
      ...(known ?? { code: 'controller-failed', retry: false }),
      cause: error,
    })
  }
}

const { status } = grpc

/** Refusals that another try may overcome. */
const retryable: ReadonlySet<grpc.status> = new Set([
  status.RESOURCE_EXHAUSTED,
  status.UNAVAILABLE,
  status.INTERNAL,
])

/** Failures without a word from the controller itself. */
const failures: ReadonlyMap<
  grpc.status,
  { readonly code: string; readonly hint: string; readonly retry: boolean }
> = new Map([
  [
    status.UNAVAILABLE,
    {
      code: 'controller-unavailable',
      hint: 'is mesh-controller running there, is the address right, and is this peer its own?',
      retry: true,
    },
  ],
  [
    status.DEADLINE_EXCEEDED,
    {
      code: 'controller-timeout',
      hint: 'the controller did not answer in time; a firewall, or it is overloaded',
      retry: true,
    },
  ],
  [
    status.CANCELLED,
    { code: 'controller-cancelled', hint: 'the call was given up on this side', retry: true },
  ],
  [
    status.UNIMPLEMENTED,
    {
      code: 'controller-lacks-method',
      hint: 'this call needs a certificate of the mesh, or the controller is of an older version',
      retry: false,
    },
  ],
])

function contextOf(credential: ClientCredential): SecureContext {
  const { bundlePem, chainPem, keyPem } = credential
  try {
    return createSecureContext({
      ca: bundlePem,
      ...(chainPem === undefined || keyPem === undefined ? {} : { cert: chainPem, key: keyPem }),
      minVersion: 'TLSv1.3',
      maxVersion: 'TLSv1.3',
    })
  } catch (error) {
    throw new MeshError(`the credential for the controller cannot be used: ${messageOf(error)}`, {
      code: 'credential-unusable',
      cause: error,
    })
  }
}
