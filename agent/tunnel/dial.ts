/**
 * Owns the dialling of one tunnel: TCP, TLS 1.3 with the caller's certificate, and the proof that the
 * far side is exactly the service that was dialled. What runs over the socket is not its business.
 */

import {
  connect as connectTls,
  type ConnectionOptions,
  type PeerCertificate,
  type TLSSocket,
} from 'node:tls'
import type { Reason } from '#shared/model/reason.ts'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import { type SpiffeId, serviceId, serviceServerName } from '#shared/model/spiffe-id.ts'
import type { Parsed, ServiceName, TrustDomain } from '#shared/model/names.ts'
import type { HostView } from '#shared/model/snapshot.ts'
import type { CredentialSource, PeerIdentity } from '#agent/identity/credentials.ts'
import type { Clock } from '#agent/platform.ts'

/** Whom a tunnel connects. */
export interface TunnelTarget {
  /** Whose certificate is shown. */
  readonly caller: SpiffeId
  /** Whose certificate is demanded. */
  readonly service: ServiceName
  readonly host: HostView
  readonly trustDomain: TrustDomain
}

/** How dialling went. */
export type DialResult =
  | { readonly kind: 'ready'; readonly socket: TLSSocket; readonly peer: PeerIdentity }
  | {
      readonly kind: 'failed'
      readonly reason: Reason
      readonly detail: string
      /** Whether nobody answered at all: the host is away, or nothing listens there. */
      readonly isUnreachable: boolean
    }

class WrongPeer extends Error {}

/** What the kernel says when nobody is there. */
const unreachable: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'EHOSTDOWN',
  'ENETUNREACH',
  'ETIMEDOUT',
])

/** Counted, not milliseconds: a pause of this process is one, and what came meanwhile is heard before the next. */
const looks = 4

/**
 * Dials; `done` is called exactly once, never before this returns, unless the dial was cancelled by
 * what this answers.
 */
export function dialTunnel(
  parts: { readonly credentials: CredentialSource; readonly clock: Clock },
  target: TunnelTarget,
  settings: { readonly timeoutMs: number },
  done: (result: DialResult) => void,
): () => void {
  const { caller, service, host, trustDomain } = target
  const where = `${host.name} (${host.address}:${host.tunnelPort})`
  const credential = parts.credentials.contextFor(caller)
  if (credential.kind === 'none') {
    const { reason, detail } = credential
    const failed = parts.clock.after(0, () =>
      done({ kind: 'failed', reason, detail, isUnreachable: false }),
    )
    return () => failed.stop()
  }
  let peer: PeerIdentity | null = null
  const options: ConnectionOptions & { readonly highWaterMark: number } = {
    host: host.address,
    port: host.tunnelPort,
    servername: serviceServerName(trustDomain, service),
    secureContext: credential.context,
    ALPNProtocols: ['h2'],
    rejectUnauthorized: true,
    checkServerIdentity: (_name, certificate) => {
      const proven = provePeer(parts.credentials, certificate, target)
      if (!proven.ok) return new WrongPeer(proven.problem)
      peer = proven.value
      return undefined
    },
    highWaterMark: 262_144,
  }
  const socket = connectTls(options)
  socket.setNoDelay(true)
  let over = false
  const finish = (result: DialResult | null): void => {
    if (over) return
    over = true
    timer.stop()
    socket.removeListener('secureConnect', onSecure).removeListener('close', onClose)
    // A socket that is destroyed may still tell of the error, so its listener stays.
    if (result?.kind === 'ready') socket.removeListener('error', onError)
    else socket.destroy()
    if (result !== null) done(result)
  }
  const fail = (reason: Reason, detail: string, isUnreachable = false): void =>
    finish({ kind: 'failed', reason, detail, isUnreachable })
  const onError = (error: Error): void => {
    const wrong = error instanceof WrongPeer || isSet(socket.authorizationError)
    if (wrong) fail('tunnel-refused-identity', `${where} is not ${service}: ${error.message}`)
    else {
      const isUnreachable = unreachable.has((error as NodeJS.ErrnoException).code ?? '')
      fail('tunnel-failed', `no tunnel to ${where}: ${messageOf(error)}`, isUnreachable)
    }
  }
  const onClose = (): void => fail('tunnel-failed', `${where} closed during the handshake`)
  const onSecure = (): void => {
    if (socket.alpnProtocol !== 'h2') fail('tunnel-failed', `${where} does not speak HTTP/2`)
    else if (!socket.authorized || peer === null) {
      fail('tunnel-refused-identity', `${where} is not proven`)
    } else finish({ kind: 'ready', socket, peer })
  }
  const { timeoutMs } = settings
  let waited = 0
  const timer = parts.clock.every(timeoutMs / looks, () => {
    if (++waited < looks) return
    fail('tunnel-failed', `no tunnel to ${where} within ${timeoutMs} ms`, true)
  })
  socket.on('error', onError)
  socket.once('close', onClose)
  socket.once('secureConnect', onSecure)
  return () => finish(null)
}

function isSet(value: unknown): boolean {
  return value !== null && value !== undefined
}

/** Who the far side is, whose chain OpenSSL has verified, if it is the service that was dialled. */
function provePeer(
  credentials: CredentialSource,
  certificate: PeerCertificate & { readonly issuerCertificate?: { readonly raw?: Buffer } },
  target: TunnelTarget,
): Parsed<PeerIdentity> {
  const peer = credentials.readPeer(certificate.raw, certificate.issuerCertificate?.raw)
  if (!peer.ok) return peer
  const wanted = serviceId(target.trustDomain, target.service)
  return peer.value.id === wanted
    ? peer
    : { ok: false, problem: `it proved to be ${peer.value.id} and not ${wanted}` }
}
