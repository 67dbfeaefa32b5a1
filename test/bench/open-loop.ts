/**
 * Owns the open-loop load, as a program of its own so that it can be pinned: sends requests on a
 * fixed schedule whatever the answers do, and times each from its scheduled moment, so that a stall
 * counts for every request it delayed. Prints p50 and p99 in microseconds as JSON.
 */

import { connect, type Socket } from 'node:net'

/** What it prints. */
export interface OpenLoopResult {
  readonly requests: number
  readonly errors: number
  readonly p50: number
  readonly p99: number
}

class Connection {
  readonly #socket: Socket
  readonly #request: string
  readonly #done: (connection: Connection, startedAt: number, ok: boolean) => void
  #startedAt = -1
  #input = ''

  constructor(
    place: { readonly host: string; readonly port: number },
    done: (connection: Connection, startedAt: number, ok: boolean) => void,
  ) {
    this.#done = done
    this.#request = `GET / HTTP/1.1\r\nHost: ${place.host}:${place.port}\r\n\r\n`
    this.#socket = connect({ ...place, noDelay: true })
    this.#socket.on('data', (chunk: Buffer) => this.#read(chunk.toString('latin1')))
    this.#socket.on('error', () => {})
    this.#socket.on('close', () => {
      if (this.#startedAt >= 0) this.#finish(false)
    })
  }

  send(scheduledAt: number): void {
    this.#startedAt = scheduledAt
    this.#socket.write(this.#request)
  }

  end(): void {
    this.#startedAt = -1
    this.#socket.destroy()
  }

  #read(text: string): void {
    this.#input += text
    const end = this.#input.indexOf('\r\n\r\n')
    if (end < 0) return
    const length = Number(/content-length: (\d+)/i.exec(this.#input)?.[1] ?? 0)
    if (this.#input.length < end + 4 + length) return
    const ok = this.#input.startsWith('HTTP/1.1 200')
    this.#input = ''
    this.#finish(ok)
  }

  #finish(ok: boolean): void {
    const startedAt = this.#startedAt
    this.#startedAt = -1
    this.#done(this, startedAt, ok)
  }
}

async function run(host: string, port: number, seconds: number): Promise<OpenLoopResult> {
  const perMs = 1
  const latencies: number[] = []
  let errors = 0
  const free: Connection[] = []
  const waiting: number[] = []
  const done = (connection: Connection, startedAt: number, ok: boolean): void => {
    if (ok) latencies.push((performance.now() - startedAt) * 1000)
    else errors++
    const next = waiting.shift()
    if (next === undefined) free.push(connection)
    else connection.send(next)
  }
  for (let i = 0; i < 16; i++) free.push(new Connection({ host, port }, done))
  const all = [...free]
  const begin = performance.now() + 200
  const total = seconds * 1000 * perMs
  for (let sent = 0; sent < total;) {
    await new Promise((resolve) => setTimeout(resolve, 1))
    const now = performance.now()
    for (; sent < total && begin + sent / perMs <= now; sent++) {
      const scheduledAt = begin + sent / perMs
      const connection = free.shift()
      if (connection === undefined) waiting.push(scheduledAt)
      else connection.send(scheduledAt)
    }
  }
  for (let i = 0; i < 2000 && latencies.length + errors < total; i++) {
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
  for (const connection of all) connection.end()
  latencies.sort((a, b) => a - b)
  const at = (share: number): number =>
    latencies[Math.floor(latencies.length * share)] ?? Number.NaN
  errors += total - latencies.length - errors
  return { requests: latencies.length, errors, p50: at(0.5), p99: at(0.99) }
}

if (import.meta.main) {
  const [host = '', port = '', seconds = '5'] = process.argv.slice(2)
  console.log(JSON.stringify(await run(host, Number(port), Number(seconds))))
}
