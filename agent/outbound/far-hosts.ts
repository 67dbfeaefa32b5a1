/**
 * Owns which far hosts are lost: one that does not answer is out of rotation for every service, and
 * is asked again by dialling it, sooner or later depending on how long it has been away, until it
 * answers. It never says that a host is gone: where all are lost they are all tried.
 */

import { Backoff } from '#shared/lifecycle/backoff.ts'
import type { Timer } from '#shared/lifecycle/clock.ts'
import type { Logger } from '#shared/logging/logger.ts'
import { agentMetrics } from '#shared/metrics/names.ts'
import type { HostView } from '#shared/model/snapshot.ts'
import type { HostLife } from '#agent/balance/endpoint.ts'
import type { Clock, Random } from '#agent/platform.ts'
import type { TrafficCounters } from '#agent/telemetry/traffic-counters.ts'
import type { TunnelTarget } from '#agent/tunnel/dial.ts'
import type { HostNews } from '#agent/tunnel/tunnels.ts'

/** What far hosts lean on. */
export interface FarHostsParts {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly counters: Pick<TrafficCounters, 'tally'>
  /** Dials a host; `done` hears whether anybody answered. What it answers cancels the dial. */
  readonly ask: (target: TunnelTarget, done: (answered: boolean) => void) => () => void
  /** A lost host has answered. */
  readonly onBack: (host: HostView) => void
}

class FarHost implements HostLife {
  readonly view: HostView
  readonly backoff: Backoff
  isLost = false
  lostAt = 0
  retry: Timer | null = null
  cancel: (() => void) | null = null

  constructor(view: HostView, backoff: Backoff) {
    this.view = view
    this.backoff = backoff
  }
}

/** See the header. */
export class FarHosts implements HostNews {
  readonly #parts: FarHostsParts
  readonly #hosts = new Map<string, FarHost>()

  constructor(parts: FarHostsParts) {
    this.#parts = parts
  }

  /** The life of a host at its place; the same for all its instances. */
  lifeOf(view: HostView): HostLife {
    return this.#of(view)
  }

  /** Forgets hosts that are not in the view, or not where they were. */
  apply(hosts: Readonly<Record<string, HostView>>): void {
    for (const [key, host] of this.#hosts) {
      const { name } = host.view
      const view = Object.hasOwn(hosts, name) ? hosts[name] : undefined
      if (view !== undefined && keyOf(view) === key) continue
      this.#hosts.delete(key)
      rest(host)
      if (host.isLost) this.#parts.logger.info({ host: name }, 'far host: lost -> gone')
    }
  }

  heard(view: HostView): void {
    const host = this.#hosts.get(keyOf(view))
    if (host?.isLost === true) this.#back(host)
  }

  silent(view: HostView, target: TunnelTarget): void {
    const host = this.#of(view)
    if (host.isLost) return
    const { clock, logger, counters } = this.#parts
    host.isLost = true
    host.lostAt = clock.elapsed()
    counters.tally(agentMetrics.hostLosses.name, { host: view.name })
    logger.warn({ host: view.name, address: view.address }, 'far host: answering -> lost')
    this.#ask(host, target)
  }

  /** Asks nobody any more. */
  stop(): void {
    for (const host of this.#hosts.values()) rest(host)
    this.#hosts.clear()
  }

  #of(view: HostView): FarHost {
    const key = keyOf(view)
    let host = this.#hosts.get(key)
    if (host === undefined) {
      host = new FarHost(view, new Backoff(this.#parts, { firstMs: 100, lastMs: 1000 }))
      this.#hosts.set(key, host)
    }
    return host
  }

  #ask(host: FarHost, target: TunnelTarget): void {
    host.retry = null
    host.cancel = this.#parts.ask(target, (answered) => {
      host.cancel = null
      if (!host.isLost) return
      if (answered) this.#back(host)
      else {
        const waitMs = host.backoff.nextMs()
        host.retry = this.#parts.clock.after(waitMs, () => this.#ask(host, target))
      }
    })
  }

  #back(host: FarHost): void {
    const { clock, logger, onBack } = this.#parts
    rest(host)
    host.isLost = false
    host.backoff.reset()
    const awayMs = Math.round(clock.elapsed() - host.lostAt)
    logger.info({ host: host.view.name, awayMs }, 'far host: lost -> answering')
    onBack(host.view)
  }
}

function rest(host: FarHost): void {
  host.retry?.stop()
  host.retry = null
  host.cancel?.()
  host.cancel = null
}

function keyOf({ name, address, tunnelPort }: HostView): string {
  return `${name} ${address} ${tunnelPort}`
}
