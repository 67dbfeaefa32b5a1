/**
 * Owns a bare API server for tests: an MtlsServer on a free loopback port with a certificate of a
 * test CA, whose handlers only say who called.
 */

import type { Clock } from '#shared/lifecycle/clock.ts'
import { systemClock } from '#shared/lifecycle/clock.ts'
import { createLogger } from '#shared/logging/logger.ts'
import { addApiService } from '#shared/rpc/api-service.ts'
import type { Caller } from '#shared/rpc/api-service.ts'
import type { Svid } from '#shared/pki/svid.ts'
import { certificateToPem } from '#shared/pki/trust.ts'
import { MtlsServer } from '#shared/rpc/mtls-server.ts'
import type { MtlsServerSettings } from '#shared/rpc/mtls-server.ts'
import type { LeafSettings, TestCa } from './certs.ts'

/** A server that runs. */
export interface TestServer {
  readonly server: MtlsServer
  readonly address: string
  readonly port: number
  /** Log lines, parsed. */
  readonly lines: Record<string, unknown>[]
  /** Who called, in order. */
  readonly callers: Caller[]
  stop(): Promise<void>
}

/** Starts one; `leaf` says how its certificate differs from a good controller's. */
export async function startTestServer(
  ca: TestCa,
  leaf: Partial<LeafSettings> = {},
  settings: Partial<MtlsServerSettings> = {},
  clock: Clock = systemClock,
  refusalOf: (svid: Svid) => string = () => '',
): Promise<TestServer> {
  const lines: Record<string, unknown>[] = []
  const logger = createLogger({
    name: 'test',
    destination: { write: (line) => void lines.push(JSON.parse(line) as Record<string, unknown>) },
  })
  const server = new MtlsServer(
    { clock, logger, refusalOf },
    {
      trustDomain: ca.trustDomain,
      listen: { host: '127.0.0.1', port: 0 },
      anonymous: true,
      ...settings,
    },
  )
  const credential = await ca.issue({ id: `spiffe://${ca.trustDomain}/controller/c1`, ...leaf })
  server.setCredential({
    chainPem: credential.chainPem + certificateToPem(ca.rootDer),
    keyPem: credential.keyPem,
    bundlePem: ca.bundlePem,
  })
  const callers: Caller[] = []
  const parts = { identify: server.identify.bind(server), logger }
  const issued = { chainPem: '', spiffeId: '', notAfterMs: 0, serial: '' }
  const mesh = {
    trustDomain: ca.trustDomain,
    trustBundlePem: ca.bundlePem,
    store: { kind: 'embedded', endpoints: [], serverName: '' },
    controller: 'c1',
    controllers: [],
    trustRecords: [],
  }
  const answer = <T>(
    caller: Caller,
    value: T,
  ): Promise<{ readonly ok: true; readonly value: T }> => {
    callers.push(caller)
    return Promise.resolve({ ok: true, value })
  }
  addApiService(
    server.identified,
    'Certificates',
    {
      RenewHost: (_request, caller) => answer(caller, issued),
      IssueService: (_request, caller) => answer(caller, issued),
      DescribeMesh: (_request, caller) => answer(caller, mesh),
    },
    parts,
  )
  if (server.anonymous !== null) {
    addApiService(
      server.anonymous,
      'Enrolment',
      { Enrol: (_request, caller) => answer(caller, { certificate: issued, mesh, host: 'h1' }) },
      parts,
    )
  }
  const { port } = await server.listen()
  return {
    server,
    address: `127.0.0.1:${port}`,
    port,
    lines,
    callers,
    stop: () => server.stop(100),
  }
}
