/**
 * Owns how a caller's connection is refused that is one too many: an HTTP caller is told at once, a
 * raw one is reset, and each is recorded. Those who do not take the answer are few and not for long.
 */

import type { Socket } from 'node:net'
import type { Clock } from '#agent/platform.ts'
import { statusOf, writeReply } from '#agent/relay/replies.ts'
import type { OutcomeSink } from '#agent/telemetry/outcome-sink.ts'
import type { TrafficCounters } from '#agent/telemetry/traffic-counters.ts'
import type { Logger } from '#shared/logging/logger.ts'
import { agentMetrics } from '#shared/metrics/names.ts'
import type { ServiceName } from '#shared/model/names.ts'
import type { Protocol } from '#shared/model/records.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'

/** What refusing leans on. */
export interface RefusedCallersParts {
  readonly clock: Clock
  readonly logger: Logger
  readonly outcomes: OutcomeSink
  readonly counters: Pick<TrafficCounters, 'tally'>
}

/** Settings of refusing. */
export interface RefusedCallersSettings {
  /** The limit that was reached, for the caller and the log. */
  readonly maxConnections: number
  /** How long a caller may take to read its answer and go. @default 1000 */
  readonly lingerMs?: number
}

/** What a refused connection was for. */
export interface RefusedCall {
  readonly protocol: Protocol
  readonly service: ServiceName | null
  readonly destination: SpiffeId | null
  readonly source: SpiffeId | null
}

/** Most callers that are given time to read; others are reset. */
const mostLingering = 256
const quietMs = 1000
const reason = 'overloaded'

/** See the header. */
export class RefusedCallers {
  readonly #parts: RefusedCallersParts
  readonly #lingerMs: number
  readonly #detail: string
  readonly #lingering = new Set<Socket>()
  #loggedAt = -Infinity

  constructor(parts: RefusedCallersParts, settings: RefusedCallersSettings) {
    this.#parts = parts
    this.#lingerMs = settings.lingerMs ?? 1000
    this.#detail = `this host has as many connections of callers as it may (maxConnections ${settings.maxConnections})`
  }

  /** Refuses a connection and records it. */
  refuse(socket: Socket, call: RefusedCall): void {
    const { counters, clock, logger } = this.#parts
    socket.on('error', () => {})
    if (call.protocol === 'http' && this.#lingering.size < mostLingering) this.#answer(socket)
    else socket.resetAndDestroy()
    counters.tally(agentMetrics.limitRefusals.name, { limit: 'maxConnections' })
    this.#record(call)
    if (clock.elapsed() - this.#loggedAt < quietMs) return
    this.#loggedAt = clock.elapsed()
    logger.warn({ reason, detail: this.#detail }, 'connections of callers refused')
  }

  #answer(socket: Socket): void {
    const settings = { requestId: '', close: true, method: '', accept: '' }
    const timer = this.#parts.clock.after(this.#lingerMs, () => socket.destroy())
    this.#lingering.add(socket)
    socket.once('close', () => {
      timer.stop()
      this.#lingering.delete(socket)
    })
    // What it sends is read and thrown away: closing before would cost it the answer.
    socket.resume()
    socket.once('end', () => socket.destroy())
    socket.end(writeReply({ reason, detail: this.#detail, ...settings }), 'latin1')
  }

  #record({ protocol, service, destination, source }: RefusedCall): void {
    const { outcomes, clock } = this.#parts
    outcomes.record({
      direction: 'outbound',
      protocol,
      source,
      destination,
      service,
      host: null,
      instance: null,
      method: '',
      path: '',
      status: protocol === 'http' ? statusOf(reason) : 0,
      reason,
      rule: null,
      bytesFromCaller: 0,
      bytesToCaller: 0,
      startedAt: clock.now(),
      durationMs: 0,
      attempts: 0,
      mtls: false,
      requestId: '',
    })
  }
}
