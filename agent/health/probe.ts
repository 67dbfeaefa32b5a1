/**
 * Owns one single check of a local instance. It dials addresses of this host only, whatever a
 * manifest says, and is over when its signal aborts.
 */

import { connect } from 'node:net'
import { getLocal } from '#shared/http/local-get.ts'
import { isLocalAddress } from '#shared/http/local-address.ts'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { HealthCheck } from '#shared/model/manifest.ts'
import type { CheckResult } from './check-rules.ts'

/** What to check and how. */
export interface ProbeTarget {
  readonly address: string
  readonly port: number
  readonly health: Pick<HealthCheck, 'kind' | 'path'>
}

/** Checks once. Never rejects. */
export type Probe = (target: ProbeTarget, signal: AbortSignal) => Promise<CheckResult>

/** Checks over the network. */
export const probe: Probe = ({ address, port, health }, signal) => {
  switch (health.kind) {
    case 'tcp':
      return probeTcp(address, port, signal)
    case 'http':
      return probeHttp(address, port, health.path, signal)
  }
}

async function probeHttp(
  address: string,
  port: number,
  path: string,
  signal: AbortSignal,
): Promise<CheckResult> {
  const answer = await getLocal({ address, port, path, signal })
  if (answer.kind === 'failed') return { pass: false, detail: answer.problem }
  const { status } = answer
  return { pass: status >= 200 && status < 400, detail: `status ${status}` }
}

function probeTcp(address: string, port: number, signal: AbortSignal): Promise<CheckResult> {
  if (!isLocalAddress(address)) {
    return Promise.resolve({ pass: false, detail: `${address} is not an address of this host` })
  }
  return new Promise((resolve) => {
    const socket = connect({ host: address, port })
    const finish = (result: CheckResult): void => {
      signal.removeEventListener('abort', onAbort)
      socket.destroy()
      resolve(result)
    }
    const onAbort = (): void => finish({ pass: false, detail: messageOf(signal.reason) })
    signal.addEventListener('abort', onAbort)
    if (signal.aborted) onAbort()
    socket.on('error', (error: NodeJS.ErrnoException) =>
      finish({ pass: false, detail: error.code ?? error.message }),
    )
    socket.on('connect', () => {
      // A dial to a free port of the ephemeral range can meet itself (simultaneous open).
      const isItself = socket.localPort === port && socket.localAddress === socket.remoteAddress
      finish(
        isItself
          ? { pass: false, detail: 'ECONNREFUSED' }
          : { pass: true, detail: 'connection opened' },
      )
    })
  })
}
