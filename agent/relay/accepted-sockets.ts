/**
 * Owns the making of sockets from the connections a server accepts, so that they too read into memory
 * of ours. Node's public interface lets only sockets that are dialled do that, and a buffer a read is the
 * dearest part of a small message's way into JavaScript. This file alone leans on what Node does not
 * document; where that is not as expected, Node makes the sockets as it always does.
 */

import { Socket, type Server, type SocketConstructorOpts } from 'node:net'
import { ReadBuffer } from './read-buffer.ts'

/** A listening socket of Node's, as `Server` holds it. */
interface ListeningHandle {
  onconnection: (this: ListeningHandle, error: number, connection?: object) => void
  /** Answers 0, or an error. */
  setNoDelay: (on: boolean) => number
}

/** How sockets are to be; both sides may half-close, and nothing is delayed. */
export interface AcceptedSocketSettings {
  readonly highWaterMark: number
  /** Connections that the server may have had waiting when it was handed over. */
  readonly backlog: number
}

const reads = Symbol('reads')
interface Accepted extends Socket {
  [reads]?: ReadBuffer
}

/**
 * Has a server that has begun to listen emit sockets that read by a `ReadBuffer`. They are read like any
 * other until somebody asks for it by {@link readBufferOf}. The server counts none of them as its own.
 */
export function acceptIntoBuffers(server: Server, settings: AcceptedSocketSettings): void {
  const { _handle: handle } = server as { readonly _handle?: Partial<ListeningHandle> | null }
  const usual = handle?.onconnection
  if (handle === undefined || handle === null || typeof usual !== 'function') return
  // What Linux accepts has the option of the socket that listens: one system call less for each.
  const isInherited = handle.setNoDelay?.(true) === 0
  // Those that wait already do not.
  let apart = isInherited ? settings.backlog + 1 : Infinity
  handle.onconnection = function (error, connection) {
    if (error !== 0 || connection === undefined) usual.call(this, error, connection)
    else {
      const socket = socketOf(connection, settings)
      if (apart > 0) {
        apart--
        socket.setNoDelay(true)
      }
      server.emit('connection', socket)
    }
  }
}

/** What a socket reads by, for whoever takes over its reading; undefined: it emits `data`. */
export function readBufferOf(socket: Socket): ReadBuffer | undefined {
  return (socket as Accepted)[reads]
}

function socketOf(handle: object, { highWaterMark }: AcceptedSocketSettings): Socket {
  const buffer = new ReadBuffer()
  // The types know only sockets that were bound before, as handles.
  const options: Omit<SocketConstructorOpts, 'handle'> & {
    readonly handle: object
    readonly highWaterMark: number
  } = { handle, allowHalfOpen: true, highWaterMark, onread: buffer.onread }
  const socket: Accepted = new Socket(options as SocketConstructorOpts)
  buffer.pass(socket)
  socket[reads] = buffer
  return socket
}
