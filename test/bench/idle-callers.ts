/**
 * Owns callers that keep connections open and say nothing, as a program of its own, for it runs on a
 * host of the bench: HTTP connections after one request each, or WebSockets. Says `open` when all are,
 * answers a line on its input with how many do not answer any more, and ends with its input.
 */

import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { createInterface, type Interface } from 'node:readline'
import { WebSocket } from 'ws'
import type { Address } from './peers/nginx.ts'
import { cores, type Way } from './site.ts'

/** How callers speak. */
export type IdleKind = 'http' | 'websocket'

/** Longest wait for an answer; past it the caller has none. */
const answerMs = 10_000

/** A running program of idle callers. */
export class IdleCallers {
  readonly #child: ChildProcess
  readonly #lines: AsyncIterator<string>

  private constructor(child: ChildProcess, lines: Interface) {
    this.#child = child
    this.#lines = lines[Symbol.asyncIterator]()
  }

  /** Opens so many connections, one after the other. */
  static async open(kind: IdleKind, { at, enter }: Way, count: number): Promise<IdleCallers> {
    const words = [import.meta.filename, kind, at.address, String(at.port), String(count)]
    const pinned = ['taskset', '-c', String(cores.load), process.execPath, ...words]
    const [command = '', ...args] = enter(pinned)
    const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    const lines = createInterface({ input: child.stdout })
    const callers = new IdleCallers(child, lines)
    await callers.#line()
    return callers
  }

  /** How many get no answer any more. */
  async silent(): Promise<number> {
    this.#child.stdin?.write('\n')
    return Number(await this.#line())
  }

  /** Closes the connections. */
  async close(): Promise<void> {
    const ended = once(this.#child, 'exit')
    this.#child.stdin?.end()
    await ended
  }

  async #line(): Promise<string> {
    const { done, value } = await this.#lines.next()
    if (done === true) throw new Error('the program of idle callers has ended; its words are above')
    return value
  }
}

/** One caller; answers whether it is still served. */
type Caller = () => Promise<boolean>

async function openHttp({ address, port }: Address): Promise<Caller> {
  const socket = connect(port, address)
  await once(socket, 'connect')
  if (!(await ask(socket))) throw new Error('a caller was not answered')
  socket.on('error', () => {})
  return () => ask(socket)
}

async function ask(socket: Socket): Promise<boolean> {
  const answer = once(socket, 'data', { signal: AbortSignal.timeout(answerMs) })
  socket.write('GET / HTTP/1.1\r\nHost: orders.mesh\r\n\r\n')
  return answer.then(
    ([data]) => String(data).startsWith('HTTP/1.1 200 '),
    () => false,
  )
}

async function openWebSocket({ address, port }: Address): Promise<Caller> {
  const socket = new WebSocket(`ws://${address}:${port}/`)
  await once(socket, 'open')
  return async () => {
    if (socket.readyState !== WebSocket.OPEN) return false
    const echo = once(socket, 'message', { signal: AbortSignal.timeout(answerMs) })
    socket.send('still here')
    return echo.then(
      ([data]) => String(data) === 'still here',
      () => false,
    )
  }
}

if (import.meta.main) {
  const [kind, address = '', port = '', count = ''] = process.argv.slice(2)
  const at = { address, port: Number(port) }
  const callers: Caller[] = []
  for (let i = 0; i < Number(count); i++) {
    callers.push(await (kind === 'websocket' ? openWebSocket(at) : openHttp(at)))
  }
  process.stdout.write('open\n')
  for await (const _ of createInterface({ input: process.stdin })) {
    const answered = await Promise.all(callers.map((caller) => caller()))
    process.stdout.write(`${answered.filter((it) => !it).length}\n`)
  }
  process.exit()
}
