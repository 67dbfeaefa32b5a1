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
import { acceptIntoBuffers } from '#agent/relay/accepted-sockets.ts'
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
  /** Ends a connection that is one too many, and says why where that can be said. */
  readonly refuse: (socket: Socket) => void
}

/** Settings of the listeners. */
export interface ListenersSettings {
  /** Most open connections, of all listeners and those beside them; the next is refused. @default 20000 */
  readonly maxConnections?: number
  /** Whether other workers listen on the same ports. @default false */
  readonly reusePort?: boolean
}

/** Bytes that wait in a connection, on the way in and on the way out. */
const highWaterMark = 262_144
const backlog = 4096
/** Connections that cannot be taken are logged this often. */
const quietMs = 1000

class Post {
  desired: DesiredListener
  readonly backoff: Backoff
  server: Server | null = null
  retry: Timer | null = null
  problem = 'opening'
  /** When a connection that could not be taken was last logged. */
  missedAt = -Infinity
  constructor(desired: DesiredListener, backoff: Backoff) {
    this.desired = desired
    this.backoff = backoff
  }
}

/** What listeners lean on. */
export interface ListenersParts {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  /** Told when a listener opened, failed or closed. */
  readonly onChange: () => void
  /** Told of each failure to open one; it is tried again. */
  readonly onFailed: (listener: ListenerState) => void
  /** Connections open elsewhere that count towards the limit too. @default there are none */
  readonly openBeside?: () => number
}

/** Keeps the desired listeners open. */
export class Listeners {
  readonly #parts: ListenersParts
  readonly #settings: ListenersSettings
  readonly #posts = new Map<string, Post>()
  /** Wishes for a port that another wish has taken. */
  #conflicts: readonly ListenerState[] = []
  #open = 0
  /** One listener for all connections: each would weigh as much as what it counts. */
  readonly #onClosed = (): void => void this.#open--

  constructor(parts: ListenersParts, settings: ListenersSettings = {}) {
    this.#parts = parts
    this.#settings = settings
  }

  /**
   * Opens what is new, closes what is gone; the same address and port stay open. Of two wishes for
   * one port the first counts, and the other is shown with its problem.
   */
  apply(desired: readonly DesiredListener[]): void {
    const wanted = new Map<string, DesiredListener>()
    const conflicts: ListenerState[] = []
    for (const one of desired) {
      const { name, address, port } = one
      const key = `${address} ${port}`
      const first = wanted.get(key)
      if (first === undefined) wanted.set(key, one)
      else {
        const problem = `${address}:${port} is taken by ${first.name}; choose another port`
        conflicts.push({ name, address, port, problem })
      }
    }
    this.#show(conflicts)
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
    return [...[...this.#posts.values()].map(stateOf), ...this.#conflicts]
  }

  /** Connections open now, of every listener together. */
  get openConnections(): number {
    return this.#open
  }

  /** Stops listening; connections live on. */
  stop(): void {
    this.apply([])
  }

  #show(conflicts: readonly ListenerState[]): void {
    const known = new Set(this.#conflicts.map(({ name, problem }) => `${name} ${problem}`))
    for (const { name, problem } of conflicts) {
      if (known.has(`${name} ${problem}`)) continue
      this.#parts.logger.error({ listener: name, problem }, 'listener not open')
    }
    this.#conflicts = conflicts
  }

  #add(key: string, desired: DesiredListener): void {
    const post = new Post(desired, new Backoff(this.#parts, { firstMs: 200, lastMs: 5000 }))
    this.#posts.set(key, post)
    this.#listen(post)
  }

  #listen(post: Post): void {
    const { name, address, port } = post.desired
    const server = createServer({ allowHalfOpen: true, noDelay: true, highWaterMark })
    post.server = server
    const { maxConnections = 20_000, reusePort = false } = this.#settings
    const { clock, logger, onChange, onFailed, openBeside = () => 0 } = this.#parts
    server.on('connection', (socket) => {
      if (this.#open + openBeside() >= maxConnections) {
        post.desired.refuse(socket)
        return
      }
      this.#open++
      socket.on('close', this.#onClosed)
      post.desired.accept(socket)
    })
    server.on('error', (error: NodeJS.ErrnoException) => {
      if (post.server !== server) return
      if (server.listening) {
        // One connection could not be taken (too many open files); the port is as open as before.
        if (clock.elapsed() - post.missedAt < quietMs) return
        post.missedAt = clock.elapsed()
        logger.error({ listener: name, error }, 'connections not taken')
        return
      }
      post.server = null
      const problem = explain(error, address, port)
      if (post.problem !== problem) {
        logger.error({ listener: name, address, port, problem }, 'listener not open')
      }
      post.problem = problem
      post.retry = clock.after(post.backoff.nextMs(), () => this.#listen(post))
      onFailed(stateOf(post))
      onChange()
    })
    const ipv6Only = address.includes(':')
    const where = { host: address, port, backlog, exclusive: true, reusePort, ipv6Only }
    server.listen(where, () => {
      if (post.server !== server) return
      acceptIntoBuffers(server, { highWaterMark, backlog })
      post.problem = ''
      post.backoff.reset()
      logger.info({ listener: name, address, port: stateOf(post).port }, 'listener open')
      onChange()
    })
  }

  #close(key: string, post: Post): void {
    this.#posts.delete(key)
    post.retry?.stop()
    const { server } = post
    post.server = null
    // The kernel resets what it has queued and nobody has accepted: that comes first.
    setImmediate(() => server?.close())
    this.#parts.logger.info({ listener: post.desired.name }, 'listener closed')
    this.#parts.onChange()
  }
}

function stateOf({ desired, server, problem }: Post): ListenerState {
  const { name, address, port } = desired
  const bound = server?.address()
  return {
    name,
    address,
    port: typeof bound === 'object' && bound !== null ? bound.port : port,
    problem,
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
