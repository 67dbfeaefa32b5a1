/**
 * Owns the two ways to the API for applications: connections to `agent.mesh` that a worker hands on
 * with the caller the kernel has named, over a socket that only the agent's user may open, and a
 * loopback port where everybody is nobody. It routes nothing.
 */

import { chmodSync, rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import type { Clock } from '#shared/lifecycle/clock.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import { parseServiceName } from '#shared/model/names.ts'
import type { Answer, Question, StreamedAnswer } from './bounded-server.ts'
import { BoundedServer } from './bounded-server.ts'
import { refusal, type Asker } from './application-api.ts'

/** What the server leans on. */
export interface ApplicationServerParts {
  readonly clock: Clock
  readonly logger: Logger
  readonly respond: (
    asker: Asker,
    path: string,
    question: Question,
  ) => Answer | StreamedAnswer | Promise<Answer>
}

/** Settings of the server. */
export interface ApplicationServerSettings {
  /** Where workers hand connections on. */
  readonly socketPath: string
  readonly address: string
  /** 0 takes any free one. */
  readonly port: number
}

const nobody: Asker = { kind: 'nobody' }
/** A worker names the caller at once. */
const introductionMs = 2000
const mostIntroductionBytes = 512
const mostHandedOn = 256

/** See the header. */
export class ApplicationServer {
  readonly #parts: ApplicationServerParts
  readonly #settings: ApplicationServerSettings
  readonly #http: BoundedServer
  readonly #door: Server
  readonly #askers = new WeakMap<Socket, Asker>()

  constructor(parts: ApplicationServerParts, settings: ApplicationServerSettings) {
    this.#parts = parts
    this.#settings = settings
    const { address, port } = settings
    this.#http = new BoundedServer(
      {
        respond: (path, question) =>
          parts.respond(this.#askers.get(question.socket) ?? nobody, path, question),
        logger: parts.logger,
      },
      {
        name: 'the API for applications',
        listen: { host: address, port },
        maxConnections: mostHandedOn,
        takes: 'PUT',
        refuse: (status, code, message) => refusal(status, code, message, ''),
      },
    )
    this.#door = createServer((socket) => this.#admit(socket))
    this.#door.maxConnections = mostHandedOn
  }

  /** The loopback port in use. */
  get port(): number {
    return this.#http.port
  }

  /** Opens both. A loopback port that is taken is told, and leaves the agent running. */
  async start(): Promise<void> {
    const { socketPath } = this.#settings
    const { logger } = this.#parts
    rmSync(socketPath, { force: true })
    await new Promise<void>((resolve, reject) => {
      this.#door.once('error', reject)
      this.#door.listen(socketPath, resolve)
    })
    this.#door.on('error', (error) => logger.error({ error }, 'API for applications'))
    chmodSync(socketPath, 0o600)
    try {
      await this.#http.start()
    } catch (error) {
      const hint = error instanceof MeshError ? error.hint : ''
      logger.error({ hint }, messageOf(error))
    }
  }

  /** Ends every connection. */
  async stop(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#door.close(() => resolve()))
    await this.#http.stop()
    await closed
  }

  /** Reads who it is, one line of JSON, and hands the connection to HTTP. */
  #admit(socket: Socket): void {
    const timer = this.#parts.clock.after(introductionMs, () => socket.destroy())
    let read = Buffer.alloc(0)
    const onData = (chunk: Buffer): void => {
      read = Buffer.concat([read, chunk])
      const end = read.indexOf(0x0a)
      if (end < 0) {
        if (read.length > mostIntroductionBytes) socket.destroy()
        return
      }
      timer.stop()
      socket.off('data', onData).off('error', onError)
      socket.pause()
      this.#askers.set(socket, askerOf(read.toString('utf8', 0, end)))
      if (read.length > end + 1) socket.unshift(read.subarray(end + 1))
      this.#http.take(socket)
      socket.resume()
    }
    const onError = (): void => void socket.destroy()
    socket.on('data', onData).on('error', onError)
    socket.once('close', () => timer.stop())
  }
}

function askerOf(line: string): Asker {
  try {
    const { service } = JSON.parse(line) as { readonly service?: unknown }
    const name = typeof service === 'string' ? parseServiceName(service) : null
    return name?.ok === true ? { kind: 'service', service: name.value } : nobody
  } catch {
    return nobody
  }
}
