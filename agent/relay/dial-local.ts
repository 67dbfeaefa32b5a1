/**
 * Owns the dialling of instances on this host: from a loopback address that no service trusts as its
 * local user, with a short timeout, and every failure named.
 */

import { connect, type TcpNetConnectOpts } from 'node:net'
import type { HeldBytes } from '#agent/http2/held-bytes.ts'
import type { Clock, Opener } from '#agent/platform.ts'
import { ReadBuffer } from './read-buffer.ts'
import { nobody } from './silence.ts'
import { SocketChannel } from './socket-channel.ts'

/** Settings of the dialler. */
export interface LocalDiallerSettings {
  /** Source address towards 127/8. */
  readonly source: string
  /** @default 1000 */
  readonly timeoutMs: number
}

/** See the header. */
export class LocalDialler {
  readonly #clock: Clock
  readonly #held: HeldBytes | undefined
  readonly #settings: LocalDiallerSettings

  constructor(
    parts: {
      readonly clock: Clock
      /** Bounds what waits for slow instances, shared with all that waits. */
      readonly held?: HeldBytes
    },
    settings: LocalDiallerSettings,
  ) {
    this.#clock = parts.clock
    this.#held = parts.held
    this.#settings = settings
  }

  /** Opens a connection and answers the opener exactly once. */
  dial(address: string, port: number, opener: Opener): void {
    const { source, timeoutMs } = this.#settings
    // The types of `connect` leave out what it hands on to the stream.
    const reads = new ReadBuffer()
    const options: TcpNetConnectOpts & { readonly highWaterMark: number } = {
      host: address,
      port,
      noDelay: true,
      allowHalfOpen: true,
      highWaterMark: 262_144,
      onread: reads.onread,
      ...(address.startsWith('127.') ? { localAddress: source } : {}),
    }
    const socket = connect(options)
    const where = `${address}:${port}`
    const fail = (detail: string): void => {
      timer.stop()
      socket.removeAllListeners()
      socket.on('error', () => {})
      socket.destroy()
      opener.onOpenFailed('instance-refused', detail)
    }
    const timer = this.#clock.after(timeoutMs, () => {
      fail(`the instance at ${where} did not take the connection within ${timeoutMs} ms`)
    })
    socket.once('error', (error) => {
      fail(`the instance at ${where} refused the connection: ${error.message}`)
    })
    socket.once('connect', () => {
      timer.stop()
      socket.removeAllListeners('error')
      opener.onOpen(new SocketChannel(socket, nobody, this.#held, reads))
    })
  }
}
