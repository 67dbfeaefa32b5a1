/**
 * Callers that hold on to one answer each, for as long as they live. One that ends, or leaves a line
 * out, is cut and not begun again. It tells its counts once a second. Arguments: port, how many.
 */

import { get } from 'node:http'

const [port = '', count = ''] = process.argv.slice(2)
const open = new Set<number>()
let cut = 0
let lines = 0

/** What a caller of streams tells. */
export interface StreamLine {
  readonly open: number
  readonly cut: number
  /** Received by all together. */
  readonly lines: number
}

function hold(id: number): void {
  let last = 0
  let rest = ''
  let over = false
  const ended = (): void => {
    if (over) return
    over = true
    open.delete(id)
    cut += 1
    sent.destroy()
  }
  const sent = get({ host: '127.0.0.1', port, path: '/stream', agent: false }, (response) => {
    if (response.statusCode !== 200) {
      ended()
      return
    }
    open.add(id)
    response.on('data', (chunk: Buffer) => {
      const parts = `${rest}${chunk.toString()}`.split('\n')
      rest = parts.pop() ?? ''
      lines += parts.length
      if (!parts.every((part) => Number(part) === (last += 1))) ended()
    })
    response.on('close', ended)
  })
  sent.on('error', ended)
}

for (let id = 0; id < Number(count); id += 1) hold(id)
setInterval(() => {
  const line: StreamLine = { open: open.size, cut, lines }
  process.stdout.write(`${JSON.stringify(line)}\n`)
}, 1000)
