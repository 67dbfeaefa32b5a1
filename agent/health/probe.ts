/**
 * Owns one single check of a local instance. It dials addresses of this host only, whatever a
 * manifest says, and is over when its signal aborts.
 */

import { connect } from 'node:net'
import { getLocal } from '#shared/http/local-get.ts'
import { isLocalAddress } from '#shared/http/local-address.ts'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { CheckSubject } from '#shared/model/health-check.ts'
import { formatHostPort } from '#shared/rpc/host-port.ts'
import { systemClock } from '#shared/lifecycle/clock.ts'
import type { CheckResult } from './check-rules.ts'
import { grpcHealth } from './grpc-health.ts'
import { systemdUnit } from './systemd-unit.ts'

/** What the kernel says where no program listens. */
const refused = 'ECONNREFUSED'

/** What to check and how. */
export interface ProbeTarget {
  readonly address: string
  readonly port: number
  readonly check: CheckSubject
}

/** Checks once. Never rejects. */
export type Probe = (target: ProbeTarget, signal: AbortSignal) => Promise<CheckResult>

/** Checks over the network, and asks systemd. */
export const probe: Probe = async (target, signal) => {
  const result = await ask(target, signal)
  if (result.outcome !== 'fail' || !result.detail.includes(refused)) return result
  const { address, port } = target
  return { ...result, detail: `nothing listens at ${formatHostPort(address, port)} (${refused})` }
}

async function ask(
  { address, port, check }: ProbeTarget,
  signal: AbortSignal,
): Promise<CheckResult> {
  if (!isLocalAddress(address)) {
    return { outcome: 'fail', detail: `${address} is not an address of this host` }
  }
  switch (check.kind) {
    case 'tcp':
      return probeTcp(address, port, signal)
    case 'http':
      return probeHttp(address, port, check.path, signal)
    case 'grpc':
      return grpcHealth(
        { clock: systemClock },
        { address, port, service: check.grpcService, signal },
      )
    case 'systemd':
      return systemdUnit(check.unit, signal)
    case 'push':
      return { outcome: 'fail', detail: 'results of a push check are brought, not sought' }
  }
}

async function probeHttp(
  address: string,
  port: number,
  path: string,
  signal: AbortSignal,
): Promise<CheckResult> {
  const answer = await getLocal({ address, port, path, signal })
  if (answer.kind === 'failed') return { outcome: 'fail', detail: answer.problem }
  const { status } = answer
  const passes = status >= 200 && status < 400
  // RFC 6585 §4: too many requests; it works, and wants less.
  return { outcome: passes ? 'pass' : status === 429 ? 'warn' : 'fail', detail: `status ${status}` }
}

function probeTcp(address: string, port: number, signal: AbortSignal): Promise<CheckResult> {
  return new Promise((resolve) => {
    const socket = connect({ host: address, port })
    const finish = (result: CheckResult): void => {
      signal.removeEventListener('abort', onAbort)
      socket.destroy()
      resolve(result)
    }
    const onAbort = (): void => finish({ outcome: 'fail', detail: messageOf(signal.reason) })
    signal.addEventListener('abort', onAbort)
    if (signal.aborted) onAbort()
    socket.on('error', (error: NodeJS.ErrnoException) =>
      finish({ outcome: 'fail', detail: error.code ?? error.message }),
    )
    socket.on('connect', () => {
      // A dial to a free port of the ephemeral range can meet itself (simultaneous open).
      const isItself = socket.localPort === port && socket.localAddress === socket.remoteAddress
      finish(
        isItself
          ? { outcome: 'fail', detail: refused }
          : { outcome: 'pass', detail: 'connection opened' },
      )
    })
  })
}
