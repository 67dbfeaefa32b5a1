/**
 * Owns the sockets a gRPC client opens, so that they end with it: grpc-js gives a connection no
 * time limit of its own, and leaves it open for good when its client is closed before the server
 * has spoken. A store that hangs would cost one socket per session.
 */

import { AsyncLocalStorage } from 'node:async_hooks'
import { subscribe } from 'node:diagnostics_channel'
import { Socket } from 'node:net'

const owner = new AsyncLocalStorage<OwnSockets>()

subscribe('net.client.socket', (message) => {
  const { socket } = message as { readonly socket?: unknown }
  if (socket instanceof Socket) owner.getStore()?.add(socket)
})

/** See the header. */
export class OwnSockets {
  readonly #sockets = new Set<Socket>()
  #over = false

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
    socket.once('close', () => this.#sockets.delete(socket))
    // Not yet: connecting, which comes next, brings a destroyed socket back to life.
    if (this.#over) queueMicrotask(() => socket.destroy())
  }

  /** Ends every socket at once, and every one that comes later. */
  destroy(): void {
    this.#over = true
    for (const socket of this.#sockets) socket.destroy()
  }
}
