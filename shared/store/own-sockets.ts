/**
 * Owns the sockets a gRPC client opens, so that they end with it, or when nobody takes them: grpc-js
 * gives a connection no time limit of its own, and leaves it open for good when its client is closed
 * before the server has spoken. A store that hangs would cost one socket per session, and one that
 * is unreachable would be waited for as long as one that is slow.
 */

import { AsyncLocalStorage } from 'node:async_hooks'
import { subscribe } from 'node:diagnostics_channel'
import { Socket } from 'node:net'
import type { Clock } from '#shared/lifecycle/clock.ts'

const owner = new AsyncLocalStorage<OwnSockets>()

subscribe('net.client.socket', (message) => {
  const { socket } = message as { readonly socket?: unknown }
  if (socket instanceof Socket) owner.getStore()?.add(socket)
})

/** The kernel asks again after a second; who has not answered half a second later is not there. */
const connectMs = 1500

/** See the header. */
export class OwnSockets {
  readonly #clock: Clock
  readonly #sockets = new Set<Socket>()
  #over = false

  constructor(parts: { readonly clock: Clock }) {
    this.#clock = parts.clock
  }

  /** Runs code; whatever sockets it opens, now or by what it started, belong here. */
  run<T>(code: () => T): T {
    return owner.run(this, code)
  }

  /**
   * Runs code that has nothing to do with whoever owns sockets here: what it opens, now or later, is
   * its own. Whoever is told of the store's events goes on to do other things.
   */
  static leave(code: () => void): void {
    owner.exit(code)
  }

  /** For this file: takes a socket in. A client that is being closed may still open one. */
  add(socket: Socket): void {
    this.#sockets.add(socket)
    const late = this.#clock.after(connectMs, () => {
      if (socket.connecting) socket.destroy(new Error(`no connection within ${connectMs} ms`))
    })
    socket.once('connect', () => late.stop())
    socket.once('close', () => {
      late.stop()
      this.#sockets.delete(socket)
    })
    // Not yet: connecting, which comes next, brings a destroyed socket back to life.
    if (this.#over) queueMicrotask(() => socket.destroy())
  }

  /** Ends every socket at once, and every one that comes later. */
  destroy(): void {
    this.#over = true
    for (const socket of this.#sockets) socket.destroy()
  }
}
