/**
 * A service of the fleet, which knows nothing of a mesh: it says who it is, and at `/stream` counts for
 * as long as somebody listens, ten lines a second. Arguments: port, host.
 */

import { createServer } from 'node:http'

const [port = '', host = ''] = process.argv.slice(2)
const tickMs = 100

const server = createServer((request, response) => {
  if (request.url !== '/stream') {
    response.end(`{"host":"${host}"}`)
    return
  }
  let line = 0
  const timer = setInterval(() => response.write(`${(line += 1)}\n`), tickMs)
  response.on('close', () => clearInterval(timer))
})
server.keepAliveTimeout = 60_000
server.listen(Number(port), '127.0.0.1')
