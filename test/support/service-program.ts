/**
 * A service that knows nothing of a mesh, for tests: `http` answers who it is and how much it was
 * sent, `echo` sends back what it gets and says goodbye after the caller's half-close, `greeter`
 * speaks first, `websocket` echoes messages. Arguments: kind, address, port, host.
 */

import { createServer as createHttpServer } from 'node:http'
import { createServer } from 'node:net'
import { WebSocketServer } from 'ws'

const [kind = '', address = '', port = '', host = ''] = process.argv.slice(2)

const http = createHttpServer((request, response) => {
  let bytes = 0
  request.on('data', (chunk: Buffer) => (bytes += chunk.length))
  request.on('end', () => {
    const { method, headers } = request
    const body = JSON.stringify({ host, method, bytes, headers })
    response.setHeader('content-type', 'application/json').end(body)
  })
})
// A service that closes idle connections invites the races that the mesh must not add to.
http.keepAliveTimeout = 60_000

const echo = createServer({ allowHalfOpen: true }, (socket) => {
  socket.on('error', () => {})
  socket.on('data', (chunk) => socket.write(chunk))
  socket.on('end', () => socket.end(`goodbye from ${host}`))
})

const greeter = createServer((socket) => {
  socket.on('error', () => {})
  socket.write(`220 ${host} at your service\r\n`)
  socket.once('data', (chunk) => socket.end(`250 ${chunk.toString().trim()}\r\n`))
})

if (kind === 'websocket') {
  const server = createHttpServer((_, response) => response.end(host))
  new WebSocketServer({ server }).on('connection', (socket) => {
    socket.on('error', () => {})
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
  })
  server.listen(Number(port), address)
} else {
  const server = kind === 'http' ? http : kind === 'echo' ? echo : greeter
  server.listen(Number(port), address)
}
