/**
 * Owns the dialling of instances on this host: from a loopback address that no service trusts as its
 * local user, with a short timeout, and every failure named.
 */

import { connect, type Socket, type TcpNetConnectOpts } from 'node:net'
import type { HeldBytes } from '#agent/http2/held-bytes.ts'
import type { ChannelError, ChannelSink, Clock, Opener, Random } from '#agent/platform.ts'
import type { Timer } from '#shared/lifecycle/clock.ts'
import type { PortRange } from '#shared/model/port-range.ts'
import { ReadBuffer } from './read-buffer.ts'
import { nobody } from './silence.ts'
import { SocketChannel } from './socket-channel.ts'

/** Settings of the dialler. */
export interface LocalDiallerSettings {
  /** Source address towards 127/8. */
  readonly source: string
  /** Ports to choose from at that address; null leaves the choice to the kernel. @default null */
  readonly ports?: PortRange | null
  /** A dial is given up between this and a quarter more. @default 1000 */
  readonly timeoutMs: number
}

/**
 * So many times within the timeout it is looked whether a dial is open. Looks are counted, not
 * milliseconds: after a pause of this process there is one, and what came meanwhile is heard before the next.
 */
const looks = 4
/** So many ports are tried before the kernel is to find one. */
const ownChoices = 8
/**
 * Ports among which there is choice: so many at first, and at most.
 *
 * Who binds an address and leaves the port to the kernel takes that port from every other destination,
 * until a minute after the connection has ended (TIME-WAIT). The kernel first looks through a quarter of
 * its range; once that is taken, after some 7,000 connections in a minute, each bind takes milliseconds.
 * Where the port is named too, the kernel compares whole connections, as it does without any bind, and a
 * loopback connection in TIME-WAIT gives its port back after a second (ip-sysctl, `tcp_tw_reuse`). But to
 * programs that bind nothing it gives none that is bound, wherever they connect to, until that minute is
 * over: so as few ports are used as can be, again and again, lest no program of the host finds one.
 */
const [fewPorts, allPorts] = [1024, 65_536]
/** After so many dials it is looked whether there is too little choice among them, or too much. */
const dialsAlike = 256

/** See the header. */
export class LocalDialler {
  readonly #clock: Clock
  readonly #random: Random
  readonly #held: HeldBytes | undefined
  readonly #settings: LocalDiallerSettings
  /** Dials under way: one timer for all, because most are over long before it. */
  readonly #open = new Set<Dialling>()
  #timer: Timer | null = null
  /** Ports among which there is choice, and how the last dials fared with that. */
  #choice = fewPorts
  #dials = 0
  #taken = 0

  constructor(
    parts: {
      readonly clock: Clock
      readonly random: Random
      /** Bounds what waits for slow instances, shared with all that waits. */
      readonly held?: HeldBytes
    },
    settings: LocalDiallerSettings,
  ) {
    this.#clock = parts.clock
    this.#random = parts.random
    this.#held = parts.held
    this.#settings = settings
  }

  /** Opens a connection and answers the opener exactly once, never before this returns. */
  dial(address: string, port: number, opener: Opener): void {
    const { timeoutMs } = this.#settings
    const connect = (choices: number): Connecting => this.#connect(address, port, choices)
    const dialling = { connect, opener, open: this.#open, held: this.#held }
    new Dialling(dialling, { address, port }).begin()
    this.#timer ??= this.#clock.every(timeoutMs / looks, () => this.#look())
  }

  #connect(address: string, port: number, choices: number): Connecting {
    const reads = new ReadBuffer()
    // The types of `connect` leave out what it hands on to the stream.
    const options: TcpNetConnectOpts & { readonly highWaterMark: number } = {
      host: address,
      port,
      ...this.#from(address, choices),
      noDelay: true,
      allowHalfOpen: true,
      highWaterMark: 262_144,
      onread: reads.onread,
    }
    return { socket: connect(options), reads }
  }

  #from(address: string, choices: number): Pick<TcpNetConnectOpts, 'localAddress' | 'localPort'> {
    if (!address.startsWith('127.')) return {}
    const { source: localAddress, ports = null } = this.#settings
    if (ports === null || choices >= ownChoices) return { localAddress }
    return { localAddress, localPort: this.#chosen(ports, choices) }
  }

  /** Who finds a port taken has twice the choice; where most do, so has everybody. */
  #chosen({ first, last }: PortRange, choices: number): number {
    if (choices === 1) this.#taken++
    if (choices === 0 && ++this.#dials === dialsAlike) {
      if (this.#taken * 2 > dialsAlike) this.#choice = Math.min(allPorts, this.#choice * 2)
      else if (this.#taken * 8 < dialsAlike) this.#choice = Math.max(fewPorts, this.#choice / 2)
      this.#dials = this.#taken = 0
    }
    const count = Math.min(last - first + 1, this.#choice << choices)
    return first + Math.floor(this.#random.fraction() * count)
  }

  #look(): void {
    for (const one of this.#open) if (++one.looks > looks) one.giveUp(this.#settings.timeoutMs)
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

/** A socket on its way, and the memory it reads into. */
interface Connecting {
  readonly socket: Socket
  readonly reads: ReadBuffer
}

/** A channel until it is open: whatever ends it before then is a refusal, but for a port that is taken. */
class Dialling implements ChannelSink {
  /** How often it was not open yet. */
  looks = 0
  readonly #connect: (choices: number) => Connecting
  readonly #opener: Opener
  readonly #open: Set<Dialling>
  readonly #held: HeldBytes | undefined
  readonly #address: string
  readonly #port: number
  #choices = 0
  #socket: Socket | null = null
  #channel: SocketChannel | null = null

  constructor(
    parts: {
      /** `choices` were tried in vain. */
      readonly connect: (choices: number) => Connecting
      readonly opener: Opener
      readonly open: Set<Dialling>
      readonly held: HeldBytes | undefined
    },
    to: { readonly address: string; readonly port: number },
  ) {
    this.#connect = parts.connect
    this.#opener = parts.opener
    this.#open = parts.open
    this.#held = parts.held
    this.#address = to.address
    this.#port = to.port
  }

  begin(): void {
    const { socket, reads } = this.#connect(this.#choices)
    this.#socket = socket
    this.#channel = new SocketChannel(socket, this, this.#held, reads)
    this.#open.add(this)
    const dialled = socket as Dialled
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
    this.#socket?.destroy()
    this.#fail(`did not take the connection within ${timeoutMs} ms`)
  }

  onData(): void {}
  onEnd(): void {}
  onDrain(): void {}

  onClose(error: ChannelError | null): void {
    if (isTaken(error) && this.#choices < ownChoices) {
      this.#choices++
      this.begin()
      return
    }
    this.#fail(`refused the connection: ${error?.message ?? 'it was closed'}`)
  }

  #fail(what: string): void {
    this.#open.delete(this)
    const where = `${this.#address}:${this.#port}`
    this.#opener.onOpenFailed('instance-refused', `the instance at ${where} ${what}`)
  }
}

/** The port of our own choice is another's, or the very connection is there already. */
function isTaken(error: ChannelError | null): boolean {
  return error?.code === 'EADDRINUSE' || error?.code === 'EADDRNOTAVAIL'
}
