/** Owns a whole controller in this process for tests: free loopback ports, a directory of its own. */

import { Controller } from '#controller/app.ts'
import type { ControllerPorts } from '#controller/app.ts'
import type { ControllerConfig } from '#controller/config.ts'
import { systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import { createLogger } from '#shared/logging/logger.ts'
import { must, parseHostName, parseTrustDomain } from '#shared/model/names.ts'
import type { ControllerClient } from '#shared/rpc/controller-client.ts'
import { openOperatorClient } from '#shared/rpc/operator-file.ts'

/** A controller that runs. */
export interface RunningController {
  readonly controller: Controller
  readonly ports: ControllerPorts
  /** `host:port` of its API. */
  readonly address: string
  /** Log lines, parsed. */
  readonly lines: Record<string, unknown>[]
  readonly operatorFile: string
  operator(): Promise<ControllerClient>
  /** A join token; by default for host h1 and every service. */
  token(order?: { host?: string; services?: string[]; ttlMs?: number }): Promise<string>
  stop(): Promise<void>
}

/** Starts one in `directory`. */
export async function startController(
  directory: string,
  overrides: Partial<ControllerConfig> = {},
): Promise<RunningController> {
  const lines: Record<string, unknown>[] = []
  const logger = createLogger({
    name: 'test',
    destination: { write: (line) => void lines.push(JSON.parse(line) as Record<string, unknown>) },
  })
  const free = { host: '127.0.0.1', port: 0 }
  const controller = new Controller(
    { clock: systemClock, random: systemRandom, logger },
    {
      name: must(parseHostName('c1')),
      trustDomain: must(parseTrustDomain('mesh.internal')),
      advertise: '127.0.0.1',
      listen: { api: free, store: free, metrics: free },
      store: { kind: 'embedded' },
      state: `${directory}/state`,
      leafTtlMs: 3_600_000,
      log: { level: 'info' },
      ...overrides,
    },
  )
  const ports = await controller.start()
  const operatorFile = `${overrides.state ?? `${directory}/state`}/operator.json`
  const operator = (): Promise<ControllerClient> =>
    openOperatorClient({ clock: systemClock }, { file: operatorFile })
  return {
    controller,
    ports,
    address: `127.0.0.1:${ports.api}`,
    lines,
    operatorFile,
    operator,
    async token({ host = 'h1', services = ['*'], ttlMs = 0 } = {}) {
      const client = await operator()
      try {
        return (await client.call('Operations', 'CreateToken', { host, services, ttlMs })).token
      } finally {
        client.close()
      }
    },
    stop: () => controller.stop(),
  }
}
