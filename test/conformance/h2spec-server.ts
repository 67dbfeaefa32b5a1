/**
 * Owns a small HTTP/2 server on a plain socket for conformance tools: every request is answered with
 * a short text once it is complete.
 */

import { createServer, type AddressInfo, type Socket } from 'node:net'
import { Http2Connection } from '#agent/http2/connection.ts'
import { headerField } from '#agent/http2/header-field.ts'
import type { Http2Stream } from '#agent/http2/stream.ts'
import { systemClock } from '#shared/lifecycle/clock.ts'

const content = Buffer.from('Hello from the framing of Hostmesh.\n')

const head = [
  headerField(':status', '200'),
  headerField('content-type', 'text/plain'),
  headerField('content-length', String(content.length)),
]

function answer(stream: Http2Stream): void {
  const reply = (): void => {
    const bare = stream.request?.method === 'HEAD'
    stream.sendHeaders(head, bare)
    if (bare) return
    stream.write(content)
    stream.end()
  }
  stream.sink = { onData() {}, onEnd: reply, onDrain() {}, onClose() {} }
}

/** Serves on a loopback port until stopped. */
export async function startH2specServer(): Promise<{ port: number; stop: () => Promise<void> }> {
  const sockets = new Set<Socket>()
  const server = createServer({ noDelay: true, allowHalfOpen: true }, (socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    const owner = {
      onStream: answer,
      onSettings() {},
      onGoaway() {},
      onStreamEnd() {},
      onClose() {},
    }
    const connection = new Http2Connection(
      { socket, clock: systemClock, owner },
      { role: 'server' },
    )
    socket.once('close', () => connection.close('the socket is gone'))
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  return {
    port: (server.address() as AddressInfo).port,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        for (const socket of sockets) socket.destroy()
      }),
  }
}
