/**
 * Owns the two ways to the API for applications: connections to `agent.mesh` that a worker hands on
 * with the caller the kernel has named, over a socket that only the agent's user may open, and a
 * loopback port where everybody is nobody. It routes nothing.
 */

import { chmodSync, rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { oneTooManyReply } from '#shared/http/unavailable-reply.ts'
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
  /** Most connections that workers hand on, all together; the next is refused. @default 256 */
  readonly most?: number
  /** Most of them by one caller, lest it shut out the others. @default 32 */
  readonly mostOfOne?: number
}

const nobody: Asker = { kind: 'nobody' }
/** A worker names the caller at once. */
const introductionMs = 2000
const mostIntroductionBytes = 512
const mostOnLoopback = 256
/** Workers bound what each of them hands on. */
const mostAtDoor = 4096

/** See the header. */
export class ApplicationServer {
  readonly #parts: ApplicationServerParts
  readonly #settings: ApplicationServerSettings
  readonly #http: BoundedServer
  readonly #door: Server
  readonly #askers = new WeakMap<Socket, Asker>()
  #open = 0
  /** The same by caller, empty for nobody; of those that have any. */
  readonly #openBy = new Map<string, number>()

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
        maxConnections: mostOnLoopback,
        takes: 'PUT',
        refuse: (status, code, message) => refusal(status, code, message, ''),
      },
    )
    this.#door = createServer((socket) => this.#admit(socket))
    this.#door.maxConnections = mostAtDoor
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
    const cut = (): void => void socket.destroy()
    let timer = this.#parts.clock.after(introductionMs, cut)
    let read = Buffer.alloc(0)
    const onData = (chunk: Buffer): void => {
      read = Buffer.concat([read, chunk])
      const end = read.indexOf(0x0a)
      if (end < 0) {
        if (read.length > mostIntroductionBytes) socket.destroy()
        return
      }
      timer.stop()
      socket.off('data', onData)
      const asker = askerOf(read.toString('utf8', 0, end))
      if (!this.#hasRoom(socket, asker)) {
        timer = this.#parts.clock.after(introductionMs, cut)
        socket.resume()
        return
      }
      socket.off('error', cut).pause()
      this.#askers.set(socket, asker)
      if (read.length > end + 1) socket.unshift(read.subarray(end + 1))
      this.#http.take(socket)
      socket.resume()
    }
    socket.on('data', onData).on('error', cut)
    socket.once('close', () => timer.stop())
  }

  /** Counts a connection, or tells it that it is one too many. */
  #hasRoom(socket: Socket, asker: Asker): boolean {
    const { most = 256, mostOfOne = 32 } = this.#settings
    const who = asker.kind === 'service' ? asker.service : ''
    const isOneTooMany = (this.#openBy.get(who) ?? 0) >= mostOfOne
    if (this.#open >= most || isOneTooMany) {
      socket.end(oneTooManyReply(isOneTooMany ? asker.kind : 'all'))
      return false
    }
    this.#count(who, 1)
    socket.once('close', () => this.#count(who, -1))
    return true
  }

  #count(who: string, change: 1 | -1): void {
    this.#open += change
    const ofOne = (this.#openBy.get(who) ?? 0) + change
    if (ofOne === 0) this.#openBy.delete(who)
    else this.#openBy.set(who, ofOne)
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
