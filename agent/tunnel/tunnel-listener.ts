/**
 * Owns the accepting side of tunnels: TLS with the certificate of the service the caller asks for,
 * the proof of who the caller is, and the CONNECT streams of those who proved it. What becomes of a
 * stream is the inbound journey's business.
 */

import { constants } from 'node:crypto'
import { createServer, type SecureContext, type Server, type TLSSocket } from 'node:tls'
import type { AddressInfo } from 'node:net'
import type { Logger } from '#shared/logging/logger.ts'
import type { Timer } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { Parsed, ServiceName, TrustDomain } from '#shared/model/names.ts'
import { parseServiceName } from '#shared/model/names.ts'
import {
  type SpiffeId,
  serviceId,
  serviceServerName,
  splitSpiffeId,
} from '#shared/model/spiffe-id.ts'
import { AbuseBudgets, type AbuseSettings, TokenBucket } from '#agent/http2/abuse-budgets.ts'
import { Http2Connection, type ConnectionOwner } from '#agent/http2/connection.ts'
import { HeldBytes } from '#agent/http2/held-bytes.ts'
import type { Http2Stream } from '#agent/http2/stream.ts'
import type { CredentialSource, PeerIdentity } from '#agent/identity/credentials.ts'
import type { Clock } from '#agent/platform.ts'
import { IncomingStream } from './incoming-stream.ts'
import { PeerLife } from './peer-life.ts'

/** A CONNECT stream of a proven caller. */
export interface IncomingCall {
  /** Who calls, proven by its certificate. */
  readonly peer: SpiffeId
  /** The service whose certificate we showed; the authority may name no other. */
  readonly service: ServiceName
  /** What CONNECT named, `<host>:<port>`. */
  readonly authority: string
  readonly stream: IncomingStream
}

/** What a listener needs. */
export interface TunnelListenerParts {
  readonly credentials: CredentialSource
  readonly clock: Clock
  readonly logger: Logger
  /** Takes a stream: grants or refuses it, now or later. */
  readonly onStream: (call: IncomingCall) => void
  /** Counts finished handshakes; `root` names the root the caller was proven under. */
  readonly onHandshake?: (result: 'ok' | 'failed' | 'refused-identity', root: string | null) => void
  /** Bounds what waits for slow consumers; shared with the dialled tunnels. @default 256 MiB */
  readonly held?: HeldBytes
}

/** Settings of a listener. */
export interface TunnelListenerSettings {
  readonly address: string
  /** 0 takes a free port. */
  readonly port: number
  readonly trustDomain: TrustDomain
  /** Whether other processes may listen on the same port. @default false */
  readonly reusePort?: boolean
  /** @default 5000 */
  readonly handshakeTimeoutMs?: number
  /** Most connections at once; further ones are closed on arrival. @default 20000 */
  readonly maxConnections?: number
  /** How often silent tunnels are asked whether they live; dead after two silent rounds. @default 15000 */
  readonly pingEveryMs?: number
  /** Streams open at once in one tunnel. @default 4096 */
  readonly maxStreams?: number
}

/**
 * Wide enough for an honest agent whose callers come and go 5,000 times a second. Resets and noise
 * are counted for all tunnels of one peer together, pings and settings for each tunnel.
 */
const abuse: AbuseSettings = {
  resets: { burst: 10_000, perSecond: 10_000 },
  settings: { burst: 32, perSecond: 1 },
  pings: { burst: 200, perSecond: 20 },
  noise: { burst: 20_000, perSecond: 20_000 },
}

/** All there are in TLS 1.3; the server's order counts, and the first is the cheapest for bodies. */
const tunnelCiphers = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
].join(':')

const deadRounds = 2
/** Rounds a peer without a tunnel is remembered, lest a new tunnel bring it new budgets. */
const rememberRounds = 3

/** One tunnel: whether its far side lives, and who that is. */
interface Tenant {
  readonly life: PeerLife
  readonly identity: PeerIdentity
}

/** An identity on one host. */
interface Peer {
  readonly budgets: AbuseBudgets
  tunnels: number
  goneRounds: number
}

/** See the header. */
export class TunnelListener {
  readonly #parts: TunnelListenerParts
  readonly #settings: TunnelListenerSettings
  readonly #held: HeldBytes
  readonly #server: Server
  readonly #connections = new Map<Http2Connection, Tenant>()
  readonly #peers = new Map<string, Peer>()
  readonly #suffix: string
  readonly #sweeping: Timer
  readonly #complaints: TokenBucket
  readonly #stopListening: () => void
  readonly #empty = Promise.withResolvers<void>()
  #isDraining = false

  constructor(parts: TunnelListenerParts, settings: TunnelListenerSettings) {
    this.#parts = parts
    this.#settings = settings
    this.#held = parts.held ?? new HeldBytes({ limitBytes: 268_435_456 })
    this.#sweeping = parts.clock.every(settings.pingEveryMs ?? 15_000, () => this.#sweep())
    this.#complaints = new TokenBucket({ burst: 20, perSecond: 1 }, parts.clock.elapsed())
    this.#stopListening = parts.credentials.onTrust(() => this.#judge())
    this.#suffix = serviceServerName(settings.trustDomain, '' as ServiceName)
    this.#server = createServer({
      SNICallback: (name, done) => this.#chooseContext(name, done),
      requestCert: true,
      rejectUnauthorized: true,
      ALPNProtocols: ['h2'],
      minVersion: 'TLSv1.3',
      ciphers: tunnelCiphers,
      secureOptions: constants.SSL_OP_NO_TICKET,
      handshakeTimeout: settings.handshakeTimeoutMs ?? 5000,
      noDelay: true,
      highWaterMark: 262_144,
    })
    this.#server.maxConnections = settings.maxConnections ?? 20_000
    this.#server.on('secureConnection', (socket) => this.#accept(socket))
    this.#server.on('tlsClientError', (error: NodeJS.ErrnoException, socket) => {
      this.#refuse(socket, 'failed', error.code ?? error.message)
    })
  }

  /** Where it listens; 0 before it does. */
  get port(): number {
    return (this.#server.address() as AddressInfo | null)?.port ?? 0
  }

  /** Tunnels open now. */
  get openTunnels(): number {
    return this.#connections.size
  }

  /** Streams open in all tunnels. */
  get openStreams(): number {
    let count = 0
    for (const connection of this.#connections.keys()) count += connection.streams.size
    return count
  }

  /** Opens the port. Throws `tunnel-port` where it cannot. */
  async listen(): Promise<void> {
    const { address, port, reusePort = false } = this.#settings
    const server = this.#server
    try {
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject)
        server.listen({ host: address, port, backlog: 4096, exclusive: true, reusePort }, resolve)
      })
    } catch (error) {
      throw new MeshError(`cannot take tunnels on ${address}:${port}`, {
        code: 'tunnel-port',
        hint: 'find who holds the port with "ss -ltnp", or set another in listen.tunnel',
        cause: error,
      })
    }
    server.removeAllListeners('error')
    server.on('error', (error) => this.#parts.logger.error({ error }, 'tunnel listener'))
  }

  /** Stops listening; open tunnels and their streams go on and new streams are still taken. */
  stopListening(): void {
    // The kernel resets what it has queued and nobody has accepted: that comes first.
    setImmediate(() => this.#server.close(() => this.#empty.resolve()))
  }

  /**
   * Stops listening, takes no new streams, and closes each tunnel after its last stream; resolves
   * when all are gone. A caller that is just shaking hands hears at once that it is to come again.
   */
  drain(): Promise<void> {
    this.#isDraining = true
    this.stopListening()
    for (const connection of this.#connections.keys()) connection.drain()
    return this.#empty.promise
  }

  /** Closes everything now. */
  stop(): void {
    this.stopListening()
    this.#sweeping.stop()
    this.#stopListening()
    for (const connection of this.#connections.keys()) connection.close('this agent is stopping')
  }

  #chooseContext(name: string, done: (error: Error | null, context?: SecureContext) => void): void {
    const service = this.#serviceOf(name)
    if (!service.ok) {
      done(new Error(service.problem))
      return
    }
    const { trustDomain } = this.#settings
    const answer = this.#parts.credentials.contextFor(serviceId(trustDomain, service.value))
    if (answer.kind === 'none') done(new Error(answer.detail))
    else done(null, answer.context)
  }

  #serviceOf(serverName: string): Parsed<ServiceName> {
    return serverName.endsWith(this.#suffix)
      ? parseServiceName(serverName.slice(0, -this.#suffix.length))
      : {
          ok: false,
          problem: `server name ${JSON.stringify(serverName)} is no service of the mesh`,
        }
  }

  #accept(socket: TLSSocket): void {
    const service = this.#serviceOf(typeof socket.servername === 'string' ? socket.servername : '')
    const peer = this.#prove(socket)
    if (!service.ok || !peer.ok) {
      const problem = service.ok ? (peer as { readonly problem: string }).problem : service.problem
      this.#refuse(socket, 'refused-identity', problem)
      return
    }
    this.#parts.onHandshake?.('ok', peer.value.root)
    this.#serve(socket, service.value, peer.value)
  }

  /** Who the far side is, or why that is not proven. The chain was verified by OpenSSL. */
  #prove(socket: TLSSocket): Parsed<PeerIdentity> {
    const certificate = socket.getPeerX509Certificate()
    if (!socket.authorized || certificate === undefined) return unproven('no certificate')
    if (socket.isSessionReused()) return unproven('a resumed session')
    if (socket.alpnProtocol !== 'h2') return unproven('no HTTP/2')
    const issuer = certificate.issuerCertificate?.raw
    const svid = this.#parts.credentials.readPeer(certificate.raw, issuer)
    if (!svid.ok) return svid
    const { id } = svid.value
    const parts = splitSpiffeId(id)
    if (!parts.ok) return parts
    return parts.value.kind === 'service' || parts.value.kind === 'host'
      ? svid
      : unproven(`${id}, which calls no services`)
  }

  #serve(socket: TLSSocket, service: ServiceName, identity: PeerIdentity): void {
    const { clock } = this.#parts
    const { id } = identity
    const peer = this.#peerOf(identity)
    const owner: ConnectionOwner = {
      onStream: (stream) => this.#onStream(stream, service, identity),
      onSettings() {},
      onGoaway() {},
      onStreamEnd() {},
      onClose: ({ code, message, by }) => {
        this.#connections.delete(connection)
        peer.tunnels--
        this.#parts.logger.debug({ peer: id, service, code, message, by }, 'tunnel closed')
      },
    }
    peer.tunnels++
    peer.goneRounds = 0
    const budgets = new AbuseBudgets(abuse, clock.elapsed(), peer.budgets)
    const connection = new Http2Connection(
      { socket, clock, owner, held: this.#held, budgets },
      { role: 'server', maxConcurrentStreams: this.#settings.maxStreams ?? 4096 },
    )
    this.#connections.set(connection, { life: new PeerLife({ connection }), identity })
    if (this.#isDraining) connection.drain()
  }

  /** A service has one identity on every host that runs it: none spends what is another's. */
  #peerOf({ id, dnsNames }: PeerIdentity): Peer {
    const key = [id, ...dnsNames].join(' ')
    let peer = this.#peers.get(key)
    if (peer === undefined) {
      const now = this.#parts.clock.elapsed()
      peer = { budgets: new AbuseBudgets(abuse, now), tunnels: 0, goneRounds: 0 }
      this.#peers.set(key, peer)
    }
    return peer
  }

  #onStream(stream: Http2Stream, service: ServiceName, identity: PeerIdentity): void {
    const incoming = new IncomingStream({ stream })
    const { request } = stream
    const { id: peer, notAfterMs } = identity
    if (notAfterMs <= this.#parts.clock.now()) {
      const ended = new Date(notAfterMs).toISOString()
      incoming.refuse(403, 'no-credential', `the certificate of ${peer} ended at ${ended}`)
      return
    }
    if (request?.method !== 'CONNECT') {
      incoming.refuse(405, 'method-refused', 'a tunnel takes CONNECT only')
      return
    }
    this.#parts.onStream({ peer, service, authority: request.authority ?? '', stream: incoming })
  }

  /** Somebody is banned: who is welcome no more is cut off now. */
  #judge(): void {
    for (const [connection, { identity }] of this.#connections) {
      const problem = this.#parts.credentials.refusal(identity)
      if (problem === '') continue
      this.#parts.logger.warn({ peer: identity.id, problem }, 'tunnel cut')
      connection.close(problem)
    }
  }

  /** A host that lost its power says no goodbye. */
  #sweep(): void {
    for (const [connection, { life }] of this.#connections) {
      if (life.listen()) continue
      if (life.missingRounds >= deadRounds) connection.close('the calling agent does not answer')
      else life.probe()
    }
    for (const [key, peer] of this.#peers) {
      if (peer.tunnels === 0 && peer.goneRounds++ >= rememberRounds) this.#peers.delete(key)
    }
  }

  #refuse(socket: TLSSocket, result: 'failed' | 'refused-identity', why: string): void {
    this.#parts.onHandshake?.(result, null)
    const { remoteAddress, remotePort } = socket
    // Whoever can reach the port can be refused: that must not fill a disk.
    if (this.#complaints.spend(this.#parts.clock.elapsed())) {
      this.#parts.logger.warn({ remoteAddress, remotePort, result, why }, 'tunnel refused')
    }
    socket.on('error', () => {})
    socket.destroy()
  }
}

function unproven(problem: string): Parsed<never> {
  return { ok: false, problem: `the caller is not proven: ${problem}` }
}
