/**
 * Owns the open-loop load, as a program of its own so that it can be pinned: sends requests on a
 * fixed schedule whatever the answers do, and times each from its scheduled moment, so that a stall
 * counts for every request it delayed. Prints p50 and p99 in microseconds as JSON. Its own first second,
 * in which it is slow itself, is not counted; whom it calls makes no difference.
 */

import { connect, type Socket } from 'node:net'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'

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

/** One a millisecond. */
const perSecond = 1000
const uncountedSeconds = 1
/** How long the last answers are waited for. */
const patienceMs = 2000

async function run(host: string, port: number, seconds: number): Promise<OpenLoopResult> {
  const total = (uncountedSeconds + seconds) * perSecond
  const begin = now() + 200
  const countFrom = begin + uncountedSeconds * 1000
  const latencies: number[] = []
  const free: Connection[] = []
  const waiting: number[] = []
  let answered = 0
  let failed = 0
  const over = Promise.withResolvers<void>()
  const done = (connection: Connection, startedAt: number, ok: boolean): void => {
    answered++
    if (!ok) failed++
    else if (startedAt >= countFrom) latencies.push((now() - startedAt) * 1000)
    if (answered === total) over.resolve()
    const next = waiting.shift()
    if (next === undefined) free.push(connection)
    else connection.send(next)
  }
  for (let i = 0; i < 16; i++) free.push(new Connection({ host, port }, done))
  const all = [...free]
  const pacer = new Worker(import.meta.filename, { workerData: { begin, total } satisfies Pace })
  pacer.on('message', (scheduledAt: number) => {
    const connection = free.shift()
    if (connection === undefined) waiting.push(scheduledAt)
    else connection.send(scheduledAt)
  })
  pacer.once('exit', () => setTimeout(() => over.resolve(), patienceMs).unref())
  await over.promise
  for (const connection of all) connection.end()
  latencies.sort((a, b) => a - b)
  const at = (share: number): number =>
    latencies[Math.floor(latencies.length * share)] ?? Number.NaN
  return {
    requests: latencies.length,
    errors: failed + total - answered,
    p50: at(0.5),
    p99: at(0.99),
  }
}

/** Milliseconds on a clock that both threads share. */
function now(): number {
  return performance.timeOrigin + performance.now()
}

/** When the pacer says how often that a request is due. */
interface Pace {
  readonly begin: number
  readonly total: number
}

/**
 * Says when a request is due, on a thread of its own: timers of Node's loop are whole milliseconds and
 * late by up to one more, which would be most of what is measured.
 */
function pace({ begin, total }: Pace, say: (scheduledAt: number) => void): void {
  const never = new Int32Array(new SharedArrayBuffer(4))
  for (let sent = 0; sent < total; sent++) {
    const scheduledAt = begin + (sent * 1000) / perSecond
    const left = scheduledAt - now()
    if (left > 0) Atomics.wait(never, 0, 0, left)
    say(scheduledAt)
  }
}

if (!isMainThread) {
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- threads have no origin
  pace(workerData as Pace, (scheduledAt) => parentPort?.postMessage(scheduledAt))
} else if (import.meta.main) {
  const [host = '', port = '', seconds = '5'] = process.argv.slice(2)
  console.log(JSON.stringify(await run(host, Number(port), Number(seconds))))
}
