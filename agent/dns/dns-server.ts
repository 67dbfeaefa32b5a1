/**
 * Owns the sockets of the mesh's DNS: UDP and TCP (RFC 7766) on loopback addresses, bounded in
 * connections, questions and patience. What is answered is the responder's matter.
 */

import { createSocket, type Socket as DatagramSocket } from 'node:dgram'
import { createServer, isIPv6, type AddressInfo, type Server, type Socket } from 'node:net'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import { framed, type Transport } from './forwarder.ts'

/** Collaborators of a server. */
export interface DnsServerParts {
  readonly logger: Logger
  readonly responder: {
    respond(message: Buffer, transport: Transport): Promise<Buffer | null>
  }
}

/** Settings of a server. */
export interface DnsServerSettings {
  /** A loopback address. */
  readonly address: string
  /** 0 takes any free one, the same for both. */
  readonly port: number
  /** @default 64 */
  readonly maxConnections?: number
  /** How long a TCP connection may be silent. @default 10000 */
  readonly idleMs?: number
}

/** Most questions of one TCP connection under way. */
const mostUnderWay = 16

/** See the header. */
export class DnsServer {
  readonly #parts: DnsServerParts
  readonly #settings: DnsServerSettings
  readonly #datagrams: DatagramSocket
  readonly #server: Server
  readonly #open = new Set<Socket>()

  constructor(parts: DnsServerParts, settings: DnsServerSettings) {
    this.#parts = parts
    this.#settings = settings
    this.#datagrams = createSocket(isIPv6(settings.address) ? 'udp6' : 'udp4')
    this.#server = createServer({ noDelay: true }, (socket) => this.#accept(socket))
    this.#server.maxConnections = settings.maxConnections ?? 64
  }

  /** Listens. @throws MeshError `listen-failed` */
  async start(): Promise<void> {
    const { address, port } = this.#settings
    try {
      await new Promise<void>((resolve, reject) => {
        this.#datagrams.once('error', reject)
        this.#datagrams.bind(port, address, () => resolve())
      })
      await new Promise<void>((resolve, reject) => {
        this.#server.once('error', reject)
        this.#server.listen(this.#datagrams.address().port, address, () => resolve())
      })
    } catch (error) {
      await this.stop()
      const inUse = (error as NodeJS.ErrnoException).code === 'EADDRINUSE'
      throw new MeshError(`cannot open DNS at ${address}:${port}: ${messageOf(error)}`, {
        code: 'listen-failed',
        hint: inUse
          ? 'another resolver listens there: stop it, or set another place in listen.dns'
          : 'check the address and the permissions',
        cause: error,
      })
    }
    const log = (error: Error): void => this.#parts.logger.error({ error }, 'DNS socket')
    this.#datagrams.removeAllListeners('error').on('error', log)
    this.#server.removeAllListeners('error').on('error', log)
    this.#datagrams.on('message', (message, { address: from, port: fromPort }) => {
      void this.#respond(message, 'udp', (answer) => {
        // One that cannot be sent is asked for again.
        this.#datagrams.send(answer, fromPort, from, () => {})
      })
    })
  }

  /** The port in use. */
  get port(): number {
    return (this.#server.address() as AddressInfo | null)?.port ?? 0
  }

  /** Ends every connection and stops listening. */
  async stop(): Promise<void> {
    await Promise.all([
      new Promise<void>((resolve) => {
        try {
          this.#datagrams.close(() => resolve())
        } catch {
          resolve()
        }
      }),
      new Promise<void>((resolve) => {
        this.#server.close(() => resolve())
        for (const socket of this.#open) socket.destroy()
      }),
    ])
  }

  #accept(socket: Socket): void {
    this.#open.add(socket)
    let heard: Buffer = Buffer.alloc(0)
    let underWay = 0
    const next = (): void => {
      while (underWay < mostUnderWay && heard.length >= 2) {
        const end = heard.readUInt16BE(0) + 2
        if (heard.length < end) break
        const message = heard.subarray(2, end)
        heard = heard.subarray(end)
        underWay += 1
        void this.#respond(message, 'tcp', (answer) => {
          underWay -= 1
          if (socket.destroyed) return
          if (answer.length > 0) socket.write(framed(answer))
          if (socket.writableLength > longestBacklog) socket.destroy()
          else next()
        })
      }
      if (underWay < mostUnderWay) socket.resume()
      else socket.pause()
    }
    socket.setTimeout(this.#settings.idleMs ?? 10_000, () => socket.destroy())
    socket.on('error', () => {})
    socket.on('close', () => this.#open.delete(socket))
    socket.on('data', (piece: Buffer) => {
      heard = heard.length === 0 ? piece : Buffer.concat([heard, piece])
      next()
    })
  }

  /** Calls back exactly once over TCP, with nothing to send where the message deserves silence. */
  async #respond(
    message: Buffer,
    transport: Transport,
    send: (answer: Buffer) => void,
  ): Promise<void> {
    const answer = await this.#parts.responder
      .respond(message, transport)
      .catch((error: unknown) => {
        this.#parts.logger.error({ problem: messageOf(error) }, 'no DNS answer')
        return null
      })
    if (answer !== null) send(answer)
    else if (transport === 'tcp') send(nothing)
  }
}

const nothing = Buffer.alloc(0)

/** A reader who takes none of this many bytes is let go. */
const longestBacklog = 1_048_576
