/**
 * Owns the dialling of services outside the mesh: TCP, and TLS with the proof that the far side is the
 * one the manifest names where the agent speaks TLS itself. Every failure is named.
 */

import { connect, isIP } from 'node:net'
import {
  checkServerIdentity,
  connect as connectTls,
  createSecureContext,
  getCACertificates,
  type SecureContext,
} from 'node:tls'
import type { HeldBytes } from '#agent/http2/held-bytes.ts'
import type { Clock, Opener } from '#agent/platform.ts'
import type { ExternalEndpoint, ExternalView } from '#shared/model/external.ts'
import { nobody } from './silence.ts'
import { SocketChannel } from './socket-channel.ts'

/** Whom to dial. */
export interface ExternalTarget extends Pick<
  ExternalView,
  'name' | 'port' | 'protocol' | 'tls' | 'connectTimeoutMs'
> {
  readonly endpoint: ExternalEndpoint
}

/** Contexts that differ in their roots only; more sets of them than this are made anew each time. */
const mostContexts = 64

/** See the header. */
export class ExternalDialler {
  readonly #clock: Clock
  readonly #held: HeldBytes | undefined
  readonly #contexts = new Map<string, SecureContext>()

  constructor(parts: {
    readonly clock: Clock
    /** Bounds what waits for slow services, shared with all that waits. */
    readonly held?: HeldBytes
  }) {
    this.#clock = parts.clock
    this.#held = parts.held
  }

  /** Opens a connection and answers the opener exactly once. */
  dial(target: ExternalTarget, opener: Opener): void {
    const { name, endpoint, port, tls, protocol, connectTimeoutMs } = target
    const to = {
      host: endpoint.address,
      port,
      noDelay: true,
      allowHalfOpen: true,
      highWaterMark: 262_144,
    }
    const proves = tls?.serverName ?? endpoint.said
    const socket =
      tls === null
        ? connect(to)
        : connectTls({
            ...to,
            secureContext: this.#contextFor(tls.caPem),
            // RFC 6066 §3: an address is no server name, but a certificate may be for one.
            ...(isIP(proves) === 0 ? { servername: proves } : {}),
            checkServerIdentity: (_name, certificate) => checkServerIdentity(proves, certificate),
            ...(protocol === 'http' ? { ALPNProtocols: ['http/1.1'] } : {}),
          })
    const where = `${name} at ${endpoint.address}:${port}`
    const fail = (detail: string): void => {
      timer.stop()
      socket.removeAllListeners()
      socket.on('error', () => {})
      socket.destroy()
      opener.onOpenFailed('external-failed', detail)
    }
    const timer = this.#clock.after(connectTimeoutMs, () => {
      const what = tls === null ? 'take the connection' : 'finish the TLS handshake'
      fail(`${where} did not ${what} within ${connectTimeoutMs} ms`)
    })
    socket.once('error', (error) => fail(`${where}: ${error.message}`))
    socket.once('close', () => fail(`${where} closed the connection during the TLS handshake`))
    socket.once(tls === null ? 'connect' : 'secureConnect', () => {
      timer.stop()
      socket.removeAllListeners('error').removeAllListeners('close')
      opener.onOpen(new SocketChannel(socket, nobody, this.#held))
    })
  }

  /** The same context for the same roots: making one parses all of them. */
  #contextFor(caPem: string | undefined): SecureContext {
    const key = caPem ?? ''
    let context = this.#contexts.get(key)
    if (context === undefined) {
      context = createSecureContext({ ca: caPem ?? systemRoots(), minVersion: 'TLSv1.2' })
      if (this.#contexts.size >= mostContexts) this.#contexts.clear()
      this.#contexts.set(key, context)
    }
    return context
  }
}

/** What the system trusts; where it says nothing, what the runtime does. */
function systemRoots(): string[] {
  const system = getCACertificates('system')
  return system.length > 0 ? system : getCACertificates('bundled')
}
