/**
 * Long-lived connections of one host, as a program of its own in that host's place: each says a number
 * now and then and must hear it again. It tells how many are whole, one JSON line every 100 ms, and ends
 * them all in good order when it is told to end. Arguments: host, port, how many.
 */

import { connect } from 'node:net'
import type { StreamLine } from './streams.ts'

const [host = '', port = '0', count = '0'] = process.argv.slice(2)
const sayEveryMs = 100

let whole = 0
let cut = 0
let echoed = 0
let leaving = false

const streams = Array.from({ length: Number(count) }, () => {
  const socket = connect({ host, port: Number(port) })
  let [said, next, heard] = [0, 1, '']
  socket.setEncoding('utf8').on('data', (text: string) => {
    heard += text
    const lines = heard.split('\n')
    heard = lines.pop() ?? ''
    for (const line of lines) {
      if (line !== String(next)) socket.destroy()
      if (next++ === 1) whole++
      echoed++
    }
  })
  socket.on('error', () => {})
  socket.on('close', () => {
    if (leaving) return
    cut++
    if (next > 1) whole--
  })
  setInterval(() => {
    if (!leaving && socket.writable) socket.write(`${++said}\n`)
  }, sayEveryMs)
  return socket
})

function tell(): void {
  const line: StreamLine = { whole, cut, echoed }
  process.stdout.write(`${JSON.stringify(line)}\n`)
}

setInterval(tell, sayEveryMs)
process.on('SIGTERM', () => {
  leaving = true
  tell()
  for (const socket of streams) socket.end()
  setTimeout(() => process.exit(0), 200)
})
