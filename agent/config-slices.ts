/**
 * Composition: what single rooms are told of the config, where that takes more than a key of it. Pure.
 */

import type { PortRange } from '#shared/model/port-range.ts'
import type { AgentConfig } from './config.ts'
import { callerPortRange } from './interception/caller-ports.ts'
import type { OwnPlace } from './manifests/own-places.ts'
import type { WorkerHubSettings } from './workers/worker-hub.ts'

/** What workers are told, now and once they start; `sourcePorts` are the host's. */
export function workersOf(
  config: AgentConfig,
  sourcePorts: PortRange | null,
): Omit<WorkerHubSettings, 'socketPath'> {
  const { listen, accessLog, log, retireMs } = config
  const { inboundSource, workers, maxConnections, limits } = config
  return {
    worker: {
      tunnel: listen.tunnel,
      forwardProxy: listen.forwardProxy,
      explicitAddress: listen.explicit,
      callerPorts: config.capture.firstPort,
      inboundSource,
      sourcePorts,
      accessLog,
      workers,
      maxConnections,
      limits,
    },
    live: { accessLog, logLevel: log.level },
    retireMs,
  }
}

/** Ports of the mesh itself: a connection to one of them that is led to a worker would go in circles. */
export function ownPortsOf({ listen, controllers }: AgentConfig): readonly number[] {
  const { tunnel, forwardProxy, applications, metrics } = listen
  const far = controllers.map((address) => Number(/[0-9]+$/.exec(address)?.[0]))
  return [tunnel.port, forwardProxy.port, applications.port, metrics.port, ...far]
}

/** The same as places, with the ports of captured callers: none of them is a service's. */
export function ownPlacesOf({ listen, capture }: AgentConfig): readonly OwnPlace[] {
  const names = {
    'the tunnel': listen.tunnel,
    'the forward proxy': listen.forwardProxy,
    'the API for applications': listen.applications,
    metrics: listen.metrics,
    DNS: listen.dns,
  }
  const own = Object.entries(names).map(([what, at]) => ({ what, ...at, first: at.port }))
  if (capture.wish === 'off') return own
  const callers = callerPortRange(capture.firstPort)
  return [...own, { what: 'ports of captured callers (capturePorts)', address: '', ...callers }]
}
