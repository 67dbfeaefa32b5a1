/**
 * Owns two ends of tunnels on loopback with real TLS: a calling side with `Tunnels` and an accepting
 * side with a `TunnelListener`, under one CA.
 */

import { Credentials } from '#agent/identity/credentials.ts'
import {
  type IncomingCall,
  TunnelListener,
  type TunnelListenerSettings,
} from '#agent/tunnel/tunnel-listener.ts'
import {
  type HostNews,
  type StreamTarget,
  Tunnels,
  type TunnelsSettings,
} from '#agent/tunnel/tunnels.ts'
import { type Clock, systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import { must, parseHostName, parsePort, parseServiceName } from '#shared/model/names.ts'
import { type SpiffeId, serviceId } from '#shared/model/spiffe-id.ts'
import { type LeafSettings, makeTestCa, type TestCa } from './certs.ts'
import { type LogLines, logLines } from './log-lines.ts'
import { type Opened, recordedOpen } from './recorded-channel.ts'

/** What a test may choose. */
export interface TunnelPairSettings {
  /** How the caller's certificate differs. */
  readonly caller?: Partial<LeafSettings>
  /** How the service's certificate differs. */
  readonly service?: Partial<LeafSettings>
  /** Of both sides. @default a new one */
  readonly ca?: TestCa
  /** Signs the caller's certificate, unknown to the accepting side. */
  readonly callerCa?: TestCa
  /** Signs the service's certificate, unknown to the calling side. */
  readonly serviceCa?: TestCa
  readonly tunnels?: TunnelsSettings
  readonly onHost?: HostNews
  readonly listener?: Partial<TunnelListenerSettings>
  /** The calling side's time. @default the system's */
  readonly clock?: Clock
  /** The accepting side's time. @default the system's */
  readonly listenerClock?: Clock
  /** @default grants every stream and sends back what comes */
  readonly onStream?: (call: IncomingCall) => void
}

/** The part of a test that a pair uses. */
export interface PairTest {
  teardown(run: () => unknown): unknown
}

/** Both ends. */
export interface TunnelPair {
  readonly ca: TestCa
  readonly caller: SpiffeId
  readonly target: StreamTarget
  readonly calling: Credentials
  readonly accepting: Credentials
  readonly tunnels: Tunnels
  readonly listener: TunnelListener
  readonly calls: IncomingCall[]
  readonly handshakes: { readonly dialled: string[]; readonly accepted: string[] }
  readonly log: LogLines
  open(target?: Partial<StreamTarget>): Promise<Opened>
}

/** Grants a stream and sends back what comes. */
export function echo({ stream }: IncomingCall): void {
  stream.accept()
  stream.sink = {
    onData: (chunk) => {
      if (!stream.write(chunk)) stream.pause()
    },
    onEnd: () => stream.end(),
    onDrain: () => stream.resume(),
    onClose() {},
  }
}

/** Makes the pair; it is stopped with the test. */
export async function makeTunnelPair(
  t: PairTest,
  settings: TunnelPairSettings = {},
): Promise<TunnelPair> {
  const ca = settings.ca ?? (await makeTestCa())
  const { trustDomain } = ca
  const service = must(parseServiceName('orders'))
  const caller = serviceId(trustDomain, must(parseServiceName('web')))
  const callerLeaf = await (settings.callerCa ?? ca).issue({ id: caller, ...settings.caller })
  const id = serviceId(trustDomain, service)
  const serviceLeaf = await (settings.serviceCa ?? ca).issue({ id, ...settings.service })

  const calling = new Credentials({ clock: systemClock })
  calling.setTrust(ca.bundlePem, trustDomain)
  calling.setCredentials([{ ...callerLeaf, id: caller, notAfterMs: Infinity }])
  const accepting = new Credentials({ clock: systemClock })
  accepting.setTrust(ca.bundlePem, trustDomain)
  accepting.setCredentials([{ ...serviceLeaf, id, notAfterMs: Infinity }])

  const log = logLines()
  const { logger } = log
  const calls: IncomingCall[] = []
  const handshakes = { dialled: [] as string[], accepted: [] as string[] }
  const listener = new TunnelListener(
    {
      credentials: accepting,
      clock: settings.listenerClock ?? systemClock,
      logger,
      onStream: (call) => {
        calls.push(call)
        ;(settings.onStream ?? echo)(call)
      },
      onHandshake: (result) => handshakes.accepted.push(result),
    },
    { address: '127.0.0.1', port: 0, trustDomain, ...settings.listener },
  )
  await listener.listen()
  t.teardown(() => listener.stop())
  const tunnels = new Tunnels(
    {
      credentials: calling,
      clock: settings.clock ?? systemClock,
      random: systemRandom,
      logger,
      onHandshake: (result) => handshakes.dialled.push(result),
      ...(settings.onHost === undefined ? {} : { onHost: settings.onHost }),
    },
    { connectTimeoutMs: 10_000, ...settings.tunnels },
  )
  t.teardown(() => tunnels.stop())
  const target: StreamTarget = {
    caller,
    service,
    trustDomain,
    authority: 'i1.orders.mesh:8080',
    host: {
      name: must(parseHostName('h2')),
      address: '127.0.0.1',
      tunnelPort: must(parsePort(listener.port)),
    },
  }
  return {
    ca,
    caller,
    target,
    calling,
    accepting,
    tunnels,
    listener,
    calls,
    handshakes,
    log,
    open: (change) =>
      recordedOpen((opener) => tunnels.openStream({ ...target, ...change }, opener)),
  }
}
