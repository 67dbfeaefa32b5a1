/**
 * Owns the questions that are not the mesh's: they go to the system's own resolvers as they came, the
 * next one where one does not answer, and answers are kept for a moment. It reads no names.
 */

import { createSocket } from 'node:dgram'
import { connect, isIPv6, type Socket } from 'node:net'
import type { Clock, Random } from '#agent/platform.ts'
import { answersTo, timeToLive, type Query } from './wire.ts'

/** A resolver of the system's. */
export interface ResolverAddress {
  readonly address: string
  readonly port: number
}

/** How a question came, and so how it goes on. */
export type Transport = 'udp' | 'tcp'

/** Collaborators of a forwarder. */
export interface ForwarderParts {
  readonly clock: Clock
  readonly random: Random
  /** The resolvers, best first, without this server itself. */
  readonly resolvers: () => readonly ResolverAddress[]
}

/** Settings of a forwarder. */
export interface ForwarderSettings {
  /** How long a resolver may take before the next is asked. @default 1000 */
  readonly tryMs?: number
  /** How often all of them are asked. @default 2 */
  readonly rounds?: number
  /** Most questions under way. @default 256 */
  readonly maxPending?: number
  /** Most answers kept. @default 1000 */
  readonly maxKept?: number
  /** Longest an answer is kept, whatever its records say. @default 5000 */
  readonly keptMs?: number
}

interface Kept {
  readonly message: Buffer
  readonly untilMs: number
}

/** See the header. */
export class Forwarder {
  readonly #parts: ForwarderParts
  readonly #settings: Required<ForwarderSettings>
  readonly #kept = new Map<string, Kept>()
  readonly #stopped = new AbortController()
  #pending = 0
  /** The resolver that answered last goes first. */
  #favourite = 0

  constructor(parts: ForwarderParts, settings: ForwarderSettings = {}) {
    this.#parts = parts
    this.#settings = {
      tryMs: 1000,
      rounds: 2,
      maxPending: 256,
      maxKept: 1000,
      keptMs: 5000,
      ...settings,
    }
  }

  /** The answer to a message that was read as `query`, with its id; null where nobody gave any. */
  async ask(message: Buffer, query: Query, transport: Transport): Promise<Buffer | null> {
    const key = `${transport} ${message.toString('latin1', 2)}`
    const now = this.#parts.clock.elapsed()
    const kept = this.#kept.get(key)
    if (kept !== undefined && kept.untilMs > now) return withId(kept.message, query.id)
    if (this.#pending >= this.#settings.maxPending || this.#stopped.signal.aborted) return null
    this.#pending += 1
    try {
      const answer = await this.#askAround(message, query.question, transport)
      if (answer !== null) this.#keep(key, answer)
      return answer === null ? null : withId(answer, query.id)
    } finally {
      this.#pending -= 1
    }
  }

  /** Gives up whatever is under way. */
  stop(): void {
    this.#stopped.abort()
    this.#kept.clear()
  }

  async #askAround(
    message: Buffer,
    question: Buffer,
    transport: Transport,
  ): Promise<Buffer | null> {
    const resolvers = this.#parts.resolvers()
    const first = this.#favourite % Math.max(1, resolvers.length)
    for (let i = 0; i < resolvers.length * this.#settings.rounds; i += 1) {
      const index = (first + i) % resolvers.length
      const resolver = resolvers[index]
      if (resolver === undefined || this.#stopped.signal.aborted) return null
      const id = this.#parts.random.bytes(2).readUInt16BE(0)
      const asked = withId(message, id)
      const isAnswer = (answer: Buffer): boolean => answersTo(answer, id, question)
      const ask = transport === 'udp' ? askByDatagram : askByStream
      const answer = await this.#within((signal) => ask(resolver, { asked, isAnswer, signal }))
      if (answer !== null) {
        this.#favourite = index
        return answer
      }
    }
    return null
  }

  async #within(run: (signal: AbortSignal) => Promise<Buffer | null>): Promise<Buffer | null> {
    const late = new AbortController()
    const timer = this.#parts.clock.after(this.#settings.tryMs, () => late.abort())
    try {
      return await run(AbortSignal.any([late.signal, this.#stopped.signal]))
    } finally {
      timer.stop()
    }
  }

  #keep(key: string, message: Buffer): void {
    const seconds = timeToLive(message)
    if (seconds === null || seconds === 0 || this.#stopped.signal.aborted) return
    const { maxKept, keptMs } = this.#settings
    this.#kept.delete(key)
    if (this.#kept.size >= maxKept) {
      const [oldest] = this.#kept.keys()
      if (oldest !== undefined) this.#kept.delete(oldest)
    }
    const untilMs = this.#parts.clock.elapsed() + Math.min(keptMs, seconds * 1000)
    this.#kept.set(key, { message, untilMs })
  }
}

interface Asking {
  readonly asked: Buffer
  /** Anything else that arrives is somebody's forgery, and is left alone. */
  readonly isAnswer: (answer: Buffer) => boolean
  readonly signal: AbortSignal
}

/** A socket of its own for each question: a port nobody can guess. */
function askByDatagram(
  { address, port }: ResolverAddress,
  { asked, isAnswer, signal }: Asking,
): Promise<Buffer | null> {
  return new Promise((resolve) => {
    const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4')
    const done = (answer: Buffer | null): void => {
      signal.removeEventListener('abort', onAbort)
      socket.removeAllListeners().on('error', () => {})
      socket.close()
      resolve(answer)
    }
    const onAbort = (): void => done(null)
    signal.addEventListener('abort', onAbort)
    socket.on('error', () => done(null))
    socket.on('message', (answer) => {
      if (isAnswer(answer)) done(answer)
    })
    // Connected, so that only that resolver is heard, and a closed port is known at once.
    socket.connect(port, address, () => socket.send(asked))
  })
}

function askByStream(
  { address, port }: ResolverAddress,
  { asked, isAnswer, signal }: Asking,
): Promise<Buffer | null> {
  return new Promise((resolve) => {
    const socket: Socket = connect({ host: address, port, signal })
    let heard = Buffer.alloc(0)
    const done = (answer: Buffer | null): void => {
      socket.destroy()
      resolve(answer)
    }
    socket.on('error', () => done(null))
    socket.on('close', () => done(null))
    socket.on('data', (piece: Buffer) => {
      heard = Buffer.concat([heard, piece])
      if (heard.length < 2) return
      const end = heard.readUInt16BE(0) + 2
      if (heard.length < end) return
      const answer = heard.subarray(2, end)
      done(isAnswer(answer) ? answer : null)
    })
    socket.on('connect', () => socket.write(framed(asked)))
  })
}

/** A message as TCP carries it (RFC 1035 §4.2.2). */
export function framed(message: Buffer): Buffer {
  const length = Buffer.alloc(2)
  length.writeUInt16BE(message.length)
  return Buffer.concat([length, message])
}

function withId(message: Buffer, id: number): Buffer {
  const copy = Buffer.from(message)
  copy.writeUInt16BE(id, 0)
  return copy
}
