/**
 * Owns one TLS port that serves gRPC: TLS 1.3, HTTP/2, no resumption, one context whatever the SNI.
 * Who may go on is decided on the accepted socket: a peer with a chain OpenSSL verified and a
 * strict SVID reaches `identified`; a peer without any certificate reaches `anonymous`, if there is
 * one; everybody else is cut off with a log line. It knows no service and no policy.
 */

import { constants } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import type { Server, TLSSocket } from 'node:tls'
import { createServer } from 'node:tls'
import type { Clock, Timer } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { TrustDomain } from '#shared/model/names.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import type { Svid } from '#shared/pki/svid.ts'
import { readSvid } from '#shared/pki/svid.ts'
import { grpc } from './grpc.ts'
import { formatHostPort } from './host-port.ts'
import type { HostPort } from './host-port.ts'

/** Key, chain and trust of a server. */
export interface ServerCredential {
  /** Leaf first; with the root at the end where clients may have to pin it. */
  readonly chainPem: string
  readonly keyPem: string
  readonly bundlePem: string
}

/** Settings of a server. */
export interface MtlsServerSettings {
  readonly trustDomain: TrustDomain
  readonly listen: HostPort
  /** Whether callers without a certificate are taken, on a server of their own. */
  readonly anonymous: boolean
  /** @default 10_000 */
  readonly handshakeTimeoutMs?: number
  /** Handshakes included. @default 20_000 */
  readonly maxConnections?: number
  /** Connections without a certificate at one time. @default 256 */
  readonly maxAnonymous?: number
  /** Largest message a caller may send, bytes. @default 65_536 */
  readonly maxRequestBytes?: number
  /** How often a quiet connection is asked for life. @default 20_000 */
  readonly keepaliveMs?: number
  /** How long the answer may take. @default 10_000 */
  readonly keepaliveTimeoutMs?: number
}

/** A call whose connection can be asked for its peer. */
export interface IdentifiableCall {
  getAuthContext(): { readonly sslPeerCertificate?: { readonly raw: Buffer } | undefined }
}

/** How long an anonymous connection may live: long enough for one enrolment. */
const anonymousLifeMs = 30_000
const sweepMs = 1000

interface Guest {
  /** Milliseconds since the epoch. */
  readonly untilMs: number
  /** Null for who has shown no certificate. */
  readonly svid: Svid | null
}

/** See the header. Services are added to `identified` and `anonymous` before `setCredential`. */
export class MtlsServer {
  readonly identified: grpc.Server
  readonly anonymous: grpc.Server | null
  readonly #clock: Clock
  readonly #logger: Logger
  readonly #settings: MtlsServerSettings
  readonly #tls: Server
  readonly #toIdentified: grpc.ConnectionInjector
  readonly #toAnonymous: grpc.ConnectionInjector | null
  /** Every accepted socket with the time its welcome ends, and who it proved to be. */
  readonly #open = new Map<TLSSocket, Guest>()
  readonly #refusalOf: (svid: Svid) => string
  #anonymousOpen = 0
  #sweep: Timer | null = null
  #stopped: Promise<void> | null = null

  constructor(
    parts: {
      readonly clock: Clock
      readonly logger: Logger
      /**
       * Why a peer with a good certificate is not wanted, or an empty string; asked when it comes and
       * every second from then on.
       */
      readonly refusalOf?: (svid: Svid) => string
    },
    settings: MtlsServerSettings,
  ) {
    this.#clock = parts.clock
    this.#refusalOf = parts.refusalOf ?? (() => '')
    this.#logger = parts.logger
    this.#settings = settings
    this.identified = new grpc.Server(channelOptions(settings))
    this.#toIdentified = injectorOf(this.identified)
    this.anonymous = settings.anonymous
      ? new grpc.Server({ ...channelOptions(settings), 'grpc.max_concurrent_streams': 4 })
      : null
    this.#toAnonymous = this.anonymous === null ? null : injectorOf(this.anonymous)
    this.#tls = createServer({
      minVersion: 'TLSv1.3',
      maxVersion: 'TLSv1.3',
      ALPNProtocols: ['h2'],
      requestCert: true,
      // Whoever has no certificate may still enrol; #accept judges everybody else.
      rejectUnauthorized: false,
      handshakeTimeout: settings.handshakeTimeoutMs ?? 10_000,
      noDelay: true,
    })
    this.#tls.maxConnections = settings.maxConnections ?? 20_000
    this.#tls.on('secureConnection', (socket) => this.#accept(socket))
    this.#tls.on('tlsClientError', (error, socket) => {
      this.#logger.debug({ err: error, from: socket.remoteAddress }, 'a TLS handshake failed')
      socket.destroy()
    })
  }

  /** Takes a credential for new connections; those that are open keep theirs. */
  setCredential(credential: ServerCredential): void {
    this.#tls.setSecureContext({
      key: credential.keyPem,
      cert: credential.chainPem,
      ca: credential.bundlePem,
      minVersion: 'TLSv1.3',
      maxVersion: 'TLSv1.3',
      // A resumed session would skip every check that changed since: no stateless tickets, and
      // without session events there is no cache for stateful ones.
      secureOptions: constants.SSL_OP_NO_TICKET,
    })
  }

  /** Opens the port; handshakes fail until `setCredential`. Throws MeshError `port-unavailable`. */
  async listen(): Promise<AddressInfo> {
    const { host, port } = this.#settings.listen
    const { promise, resolve, reject } = Promise.withResolvers<AddressInfo>()
    this.#tls.once('error', reject)
    this.#tls.listen({ host, port }, () => resolve(this.#tls.address() as AddressInfo))
    try {
      const address = await promise
      this.#sweep = this.#clock.every(sweepMs, () => this.#cutEnded())
      return address
    } catch (error) {
      throw new MeshError(`cannot listen on ${formatHostPort(host, port)}`, {
        code: 'port-unavailable',
        hint: 'another process may hold the port, or the address is not of this host',
        cause: error,
      })
    } finally {
      this.#tls.off('error', reject)
      this.#tls.on('error', (error) => this.#logger.error({ err: error }, 'the listener failed'))
    }
  }

  /** The peer a call's connection proved, or null. Every handler's one source of identity. */
  identify(call: IdentifiableCall): SpiffeId | null {
    return this.svidOf(call)?.id ?? null
  }

  /** What the peer of a call's connection proved, or null. */
  svidOf(call: IdentifiableCall): Svid | null {
    const der = call.getAuthContext().sslPeerCertificate?.raw
    if (der === undefined) return null
    const svid = readSvid(der, this.#settings.trustDomain)
    return svid.ok && svid.value.notAfterMs > this.#clock.now() ? svid.value : null
  }

  /** Connections open now, handshakes apart. */
  get connections(): number {
    return this.#open.size
  }

  /** Stops accepting, lets open calls finish for `graceMs`, then cuts what is left. */
  stop(graceMs: number): Promise<void> {
    this.#stopped ??= this.#stop(graceMs)
    return this.#stopped
  }

  async #stop(graceMs: number): Promise<void> {
    this.#sweep?.stop()
    const closed = new Promise<void>((resolve) => {
      this.#tls.close(() => resolve())
    })
    const servers = this.anonymous === null ? [this.identified] : [this.identified, this.anonymous]
    const late = this.#clock.after(graceMs, () => {
      for (const server of servers) server.forceShutdown()
      for (const socket of this.#open.keys()) socket.destroy()
    })
    await Promise.all(servers.map((server) => shutDown(server)))
    for (const socket of this.#open.keys()) socket.destroy()
    await closed
    late.stop()
  }

  #accept(socket: TLSSocket): void {
    // A socket without a listener for errors ends the process on a reset.
    socket.on('error', () => socket.destroy())
    const der = socket.getPeerX509Certificate()?.raw
    if (socket.alpnProtocol !== 'h2') this.#refuse(socket, 'it does not speak HTTP/2')
    else if (der === undefined) this.#acceptAnonymous(socket)
    else if (!socket.authorized) {
      this.#refuse(socket, `its certificate was not verified: ${String(socket.authorizationError)}`)
    } else {
      const svid = readSvid(der, this.#settings.trustDomain)
      const problem = svid.ok ? this.#refusalOf(svid.value) : svid.problem
      if (svid.ok && problem === '') {
        const guest = { untilMs: svid.value.notAfterMs, svid: svid.value }
        this.#admit(socket, this.#toIdentified, guest)
      } else this.#refuse(socket, problem)
    }
  }

  #acceptAnonymous(socket: TLSSocket): void {
    if (this.#toAnonymous === null) {
      this.#refuse(socket, 'it presented no certificate')
    } else if (this.#anonymousOpen >= (this.#settings.maxAnonymous ?? 256)) {
      this.#refuse(socket, 'too many connections without a certificate are open')
    } else {
      this.#anonymousOpen++
      socket.once('close', () => this.#anonymousOpen--)
      const untilMs = this.#clock.now() + anonymousLifeMs
      this.#admit(socket, this.#toAnonymous, { untilMs, svid: null })
    }
  }

  #admit(socket: TLSSocket, injector: grpc.ConnectionInjector, guest: Guest): void {
    this.#open.set(socket, guest)
    socket.once('close', () => this.#open.delete(socket))
    injector.injectConnection(socket)
  }

  #refuse(socket: TLSSocket, why: string): void {
    this.#logger.warn({ from: socket.remoteAddress, why }, 'a peer was refused')
    socket.destroy()
  }

  /** A connection is worth no more than the certificate it began with. */
  #cutEnded(): void {
    const now = this.#clock.now()
    for (const [socket, { untilMs, svid }] of this.#open) {
      if (untilMs <= now) {
        socket.destroy()
        continue
      }
      const problem = svid === null ? '' : this.#refusalOf(svid)
      if (problem !== '') this.#refuse(socket, problem)
    }
  }
}

function channelOptions(settings: MtlsServerSettings): grpc.ServerOptions {
  return {
    'grpc.max_receive_message_length': settings.maxRequestBytes ?? 65_536,
    'grpc.keepalive_time_ms': settings.keepaliveMs ?? 20_000,
    'grpc.keepalive_timeout_ms': settings.keepaliveTimeoutMs ?? 10_000,
    'grpc.enable_channelz': 0,
  }
}

/** Injected sockets have TLS behind them already, so the server itself is a plain one. */
function injectorOf(server: grpc.Server): grpc.ConnectionInjector {
  return server.createConnectionInjector(grpc.ServerCredentials.createInsecure())
}

function shutDown(server: grpc.Server): Promise<void> {
  return new Promise((resolve) => {
    server.tryShutdown(() => resolve())
  })
}
