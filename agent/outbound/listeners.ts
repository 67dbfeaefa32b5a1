/**
 * Owns the open listening sockets of the outbound side: desired ones are opened, others closed
 * (their connections live on), and one that cannot be opened is tried again and reported. What is
 * done with a connection is the opener's business.
 */

import { createServer, type Server, type Socket } from 'node:net'
import { Backoff } from '#shared/lifecycle/backoff.ts'
import type { Timer } from '#shared/lifecycle/clock.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { Clock, Random } from '#agent/platform.ts'
import type { ListenerState } from '#agent/workers/messages.ts'

/** A listener somebody wants open. */
export interface DesiredListener {
  /** Shown to operators: `proxy`, or `orders (web.json)`. */
  readonly name: string
  readonly address: string
  /** 0 takes a free port. */
  readonly port: number
  /** Takes over a connection; both sides may half-close. */
  readonly accept: (socket: Socket) => void
}

/** Settings of the listeners. */
export interface ListenersSettings {
  /** Most open connections a listener; past it a connection is refused at once. @default 20000 */
  readonly maxConnections: number
}

class Post {
  desired: DesiredListener
  readonly backoff: Backoff
  server: Server | null = null
  retry: Timer | null = null
  problem = 'opening'
  open = 0
  constructor(desired: DesiredListener, backoff: Backoff) {
    this.desired = desired
    this.backoff = backoff
  }
}

/** Keeps the desired listeners open. */
export class Listeners {
  readonly #parts: {
    readonly clock: Clock
    readonly random: Random
    readonly logger: Logger
    readonly onChange: () => void
  }
  readonly #settings: ListenersSettings
  readonly #posts = new Map<string, Post>()

  constructor(
    parts: {
      readonly clock: Clock
      readonly random: Random
      readonly logger: Logger
      /** Told when a listener opened, failed or closed. */
      readonly onChange: () => void
    },
    settings: ListenersSettings = { maxConnections: 20_000 },
  ) {
    this.#parts = parts
    this.#settings = settings
  }

  /** Opens what is new, closes what is gone; the same address and port stay open. */
  apply(desired: readonly DesiredListener[]): void {
    const wanted = new Map(desired.map((one) => [`${one.address} ${one.port}`, one]))
    for (const [key, post] of this.#posts) {
      if (!wanted.has(key)) this.#close(key, post)
    }
    for (const [key, one] of wanted) {
      const post = this.#posts.get(key)
      if (post !== undefined) post.desired = one
      else this.#add(key, one)
    }
  }

  /** How every desired listener stands. */
  get states(): readonly ListenerState[] {
    return [...this.#posts.values()].map(({ desired, server, problem }) => {
      const bound = server?.address()
      return {
        name: desired.name,
        address: desired.address,
        port: typeof bound === 'object' && bound !== null ? bound.port : desired.port,
        problem,
      }
    })
  }

  /** Connections open now, of every listener together. */
  get openConnections(): number {
    let open = 0
    for (const post of this.#posts.values()) open += post.open
    return open
  }

  /** Stops listening; connections live on. */
  stop(): void {
    this.apply([])
  }

  #add(key: string, desired: DesiredListener): void {
    const post = new Post(desired, new Backoff(this.#parts, { firstMs: 200, lastMs: 5000 }))
    this.#posts.set(key, post)
    this.#open(post)
  }

  #open(post: Post): void {
    const { name, address, port } = post.desired
    const server = createServer({ allowHalfOpen: true, noDelay: true, highWaterMark: 262_144 })
    post.server = server
    server.maxConnections = this.#settings.maxConnections
    server.on('connection', (socket) => {
      post.open++
      socket.once('close', () => post.open--)
      post.desired.accept(socket)
    })
    server.on('error', (error: NodeJS.ErrnoException) => {
      if (post.server !== server) return
      post.server = null
      const problem = explain(error, address, port)
      if (post.problem !== problem) {
        this.#parts.logger.error({ listener: name, address, port, problem }, 'listener not open')
      }
      post.problem = problem
      post.retry = this.#parts.clock.after(post.backoff.nextMs(), () => this.#open(post))
      this.#parts.onChange()
    })
    server.listen({ host: address, port, backlog: 4096 }, () => {
      post.problem = ''
      post.backoff.reset()
      this.#parts.logger.info({ listener: name, address, port }, 'listener open')
      this.#parts.onChange()
    })
  }

  #close(key: string, post: Post): void {
    this.#posts.delete(key)
    post.retry?.stop()
    const { server } = post
    post.server = null
    server?.close()
    this.#parts.logger.info({ listener: post.desired.name }, 'listener closed')
    this.#parts.onChange()
  }
}

function explain(error: NodeJS.ErrnoException, address: string, port: number): string {
  switch (error.code) {
    case 'EADDRINUSE':
      return `${address}:${port} is in use by another program; find it with "ss -ltnp", or choose another port`
    case 'EACCES':
      return `${address}:${port} needs a privilege the agent does not have; choose a port of 1024 or above`
    case 'EADDRNOTAVAIL':
      return `${address} is not an address of this host`
    case undefined:
    default:
      return `cannot listen on ${address}:${port}: ${error.message}`
  }
}
