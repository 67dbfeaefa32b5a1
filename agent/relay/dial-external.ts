/**
 * Owns the dialling of services outside the mesh: TCP, and TLS with the proof that the far side is the
 * one the manifest names where the agent speaks TLS itself. Every failure is named.
 */

import { connect, isIP, type Socket } from 'node:net'
import {
  checkServerIdentity,
  connect as connectTls,
  createSecureContext,
  getCACertificates,
  type SecureContext,
} from 'node:tls'
import type { HeldBytes } from '#agent/http2/held-bytes.ts'
import type { Clock, Opener } from '#agent/platform.ts'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { ExternalEndpoint, ExternalView, TlsMaterial } from '#shared/model/external.ts'
import { nobody } from './silence.ts'
import { SocketChannel } from './socket-channel.ts'

/** Whom to dial. */
export interface ExternalTarget extends Pick<
  ExternalView,
  'name' | 'port' | 'protocol' | 'tls' | 'connectTimeoutMs'
> {
  readonly endpoint: ExternalEndpoint
}

/** A certificate may be for thousands of names, and a failure lists them. */
const mostDetail = 300

/** See the header. */
export class ExternalDialler {
  readonly #clock: Clock
  readonly #held: HeldBytes | undefined
  /** Making one parses all that it trusts; a service's `tls` is the same object until it changes. */
  readonly #contexts = new WeakMap<TlsMaterial, SecureContext>()
  /** Trusts what the system trusts, and shows nothing. */
  #plain: SecureContext | null = null

  constructor(parts: {
    readonly clock: Clock
    /** Bounds what waits for slow services, shared with all that waits. */
    readonly held?: HeldBytes
  }) {
    this.#clock = parts.clock
    this.#held = parts.held
  }

  /** Opens a connection and answers the opener exactly once, never before this returns. */
  dial(target: ExternalTarget, opener: Opener): void {
    const { name, endpoint, port, tls, connectTimeoutMs } = target
    const where = `${name} at ${endpoint.address}:${port}`
    const opened = this.#connect(target)
    if (typeof opened === 'string') {
      this.#clock.after(0, () => opener.onOpenFailed('external-failed', `${where}: ${opened}`))
      return
    }
    const socket = opened
    const settle = (): void => {
      timer.stop()
      // Not all listeners: TLS frees its memory by one of its own.
      socket.off('connect', onConnect).off('secureConnect', onReady)
      socket.off('close', onClose).off('error', onError)
    }
    const fail = (detail: string): void => {
      settle()
      socket.on('error', () => {})
      socket.destroy()
      opener.onOpenFailed('external-failed', `${where} ${detail.slice(0, mostDetail)}`)
    }
    const onError = (error: Error): void => fail(`failed: ${error.message}`)
    const onClose = (): void => fail('closed the connection during the TLS handshake')
    const onReady = (): void => {
      settle()
      opener.onOpen(new SocketChannel(socket, nobody, this.#held))
    }
    const onConnect = (): void => {
      // An address may have come to this host since it was judged, and the agent goes past its locks.
      if (socket.localAddress === socket.remoteAddress) fail('is this host itself')
      else if (tls === null) onReady()
    }
    const timer = this.#clock.after(connectTimeoutMs, () => {
      const what = tls === null ? 'take the connection' : 'finish the TLS handshake'
      fail(`did not ${what} within ${connectTimeoutMs} ms`)
    })
    socket.on('connect', onConnect).on('secureConnect', onReady)
    socket.on('close', onClose).on('error', onError)
  }

  /** A socket that is connecting, or why none can. */
  #connect({ endpoint, port, tls, protocol }: ExternalTarget): Socket | string {
    const to = {
      host: endpoint.address,
      port,
      noDelay: true,
      allowHalfOpen: true,
      highWaterMark: 262_144,
    }
    if (tls === null) return connect(to)
    const proves = tls.serverName ?? endpoint.said
    try {
      return connectTls({
        ...to,
        secureContext: this.#contextFor(tls),
        // Whatever the environment says.
        rejectUnauthorized: true,
        // RFC 6066 §3: an address is no server name, but a certificate may be for one.
        ...(isIP(proves) === 0 ? { servername: proves } : {}),
        checkServerIdentity: (_name, certificate) => checkServerIdentity(proves, certificate),
        ...(protocol === 'http' ? { ALPNProtocols: ['http/1.1'] } : {}),
      })
    } catch (error) {
      return `TLS cannot be spoken: ${messageOf(error)}`
    }
  }

  #contextFor(tls: TlsMaterial): SecureContext {
    const { caPem, certPem, keyPem } = tls
    if (caPem === undefined && certPem === undefined) {
      return (this.#plain ??= createSecureContext({ ca: systemRoots(), minVersion: 'TLSv1.2' }))
    }
    let context = this.#contexts.get(tls)
    if (context === undefined) {
      context = createSecureContext({
        ca: caPem ?? systemRoots(),
        minVersion: 'TLSv1.2',
        ...(certPem === undefined ? {} : { cert: certPem }),
        ...(keyPem === undefined ? {} : { key: keyPem }),
      })
      this.#contexts.set(tls, context)
    }
    return context
  }
}

/** What the system trusts; where it says nothing, what the runtime does. */
function systemRoots(): string[] {
  const system = getCACertificates('system')
  return system.length > 0 ? system : getCACertificates('bundled')
}
