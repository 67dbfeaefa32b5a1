/**
 * Owns the dialling of instances on this host: from a loopback address that no service trusts as its
 * local user, with a short timeout, and every failure named.
 */

import { connect, type Socket, type TcpNetConnectOpts } from 'node:net'
import type { HeldBytes } from '#agent/http2/held-bytes.ts'
import type { ChannelError, ChannelSink, Clock, Opener } from '#agent/platform.ts'
import type { Timer } from '#shared/lifecycle/clock.ts'
import { ReadBuffer } from './read-buffer.ts'
import { nobody } from './silence.ts'
import { SocketChannel } from './socket-channel.ts'

/** Settings of the dialler. */
export interface LocalDiallerSettings {
  /** Source address towards 127/8. */
  readonly source: string
  /** A dial is given up between this and a quarter more. @default 1000 */
  readonly timeoutMs: number
}

/** So many times within the timeout it is looked whether a dial is late. */
const looks = 4

/** See the header. */
export class LocalDialler {
  readonly #clock: Clock
  readonly #held: HeldBytes | undefined
  readonly #settings: LocalDiallerSettings
  /** Dials under way: one timer for all, because most are over long before it. */
  readonly #open = new Set<Dialling>()
  #timer: Timer | null = null

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

  /** Opens a connection and answers the opener exactly once, never before this returns. */
  dial(address: string, port: number, opener: Opener): void {
    const { source, timeoutMs } = this.#settings
    // The types of `connect` leave out what it hands on to the stream.
    const reads = new ReadBuffer()
    const options: TcpNetConnectOpts & { readonly highWaterMark: number } = {
      host: address,
      port,
      localAddress: address.startsWith('127.') ? source : undefined,
      noDelay: true,
      allowHalfOpen: true,
      highWaterMark: 262_144,
      onread: reads.onread,
    }
    const socket = connect(options)
    const lateAt = this.#clock.elapsed() + timeoutMs
    const dialling = new Dialling({ socket, opener, open: this.#open }, { address, port, lateAt })
    dialling.begin(new SocketChannel(socket, dialling, this.#held, reads))
    this.#timer ??= this.#clock.every(timeoutMs / looks, () => this.#look())
  }

  #look(): void {
    const now = this.#clock.elapsed()
    for (const one of this.#open) if (one.lateAt <= now) one.giveUp(this.#settings.timeoutMs)
    if (this.#open.size > 0) return
    this.#timer?.stop()
    this.#timer = null
  }
}

/** The dialling a socket is of. Found by the socket, the listener is the same for all and costs nothing. */
const diallingOf = Symbol('dialling')
interface Dialled extends Socket {
  [diallingOf]: Dialling
}

function onConnect(this: Dialled): void {
  this[diallingOf].connected()
}

/** A channel until it is open: whatever ends it before then is a refusal. */
class Dialling implements ChannelSink {
  readonly lateAt: number
  readonly #socket: Socket
  readonly #opener: Opener
  readonly #open: Set<Dialling>
  readonly #address: string
  readonly #port: number
  #channel: SocketChannel | null = null

  constructor(
    parts: { readonly socket: Socket; readonly opener: Opener; readonly open: Set<Dialling> },
    to: { readonly address: string; readonly port: number; readonly lateAt: number },
  ) {
    this.#socket = parts.socket
    this.#opener = parts.opener
    this.#open = parts.open
    this.#address = to.address
    this.#port = to.port
    this.lateAt = to.lateAt
  }

  begin(channel: SocketChannel): void {
    this.#channel = channel
    this.#open.add(this)
    const dialled = this.#socket as Dialled
    dialled[diallingOf] = this
    dialled.on('connect', onConnect)
  }

  /** For the socket. */
  connected(): void {
    this.#open.delete(this)
    const channel = this.#channel as SocketChannel
    channel.sink = nobody
    this.#opener.onOpen(channel)
  }

  /** It has taken too long. */
  giveUp(timeoutMs: number): void {
    const channel = this.#channel as SocketChannel
    channel.sink = nobody
    this.#socket.destroy()
    this.#fail(`did not take the connection within ${timeoutMs} ms`)
  }

  onData(): void {}
  onEnd(): void {}
  onDrain(): void {}

  onClose(error: ChannelError | null): void {
    this.#fail(`refused the connection: ${error?.message ?? 'it was closed'}`)
  }

  #fail(what: string): void {
    this.#open.delete(this)
    const where = `${this.#address}:${this.#port}`
    this.#opener.onOpenFailed('instance-refused', `the instance at ${where} ${what}`)
  }
}
