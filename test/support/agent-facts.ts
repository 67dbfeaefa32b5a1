/** Owns a healthy agent's facts, for tests that bend one of them. */

import type { AgentFacts, StatusReport } from '#shared/model/admin.ts'

const now = Date.parse('2026-01-02T03:04:05Z')

/** The moment of the facts, milliseconds since the epoch. */
export const factsNow = now

/** A healthy agent with one service, one upstream and one worker. */
export const healthyFacts: AgentFacts = {
  status: {
    host: 'alpha',
    zone: 'z1',
    address: '10.0.0.1',
    trustDomain: 'mesh.internal',
    version: '0.1.0',
    pid: 100,
    startedAtMs: now - 60_000,
    nowMs: now,
    ready: true,
    waitsFor: '',
    store: { kind: 'up' },
    outageBudget: { ms: 82_800_000, endsFirst: 'spiffe://mesh.internal/service/web' },
    controller: { address: '10.0.0.9:15010', contact: { kind: 'up' } },
    snapshot: {
      revision: 42,
      sequence: 7,
      vouchedAtMs: now,
      source: 'store',
      services: 2,
      instances: 3,
      hosts: 2,
      of: 'whole-mesh',
      inUse: 0,
      hostsKept: [],
      rejected: 0,
      problems: [],
    },
    capture: {
      kind: 'on',
      reason: '',
      hint: '',
      callers: [],
      egress: 'allow-any',
      destinations: 2,
      problems: [],
      lifted: null,
      limit: '',
      bypasses: [],
    },
    manifestDirectory: { path: '/etc/mesh.d', problem: '', cause: '', fix: '' },
    workersWanted: 1,
    maintenance: null,
    facts: {},
    workers: [
      {
        generation: 1,
        index: 0,
        pid: 101,
        protocol: 2,
        version: '0.1.0',
        phase: 'live',
        applied: 7,
        crashes: 0,
        trust: { bundle: 1, bans: 1 },
        tunnelPort: 15008,
        listeners: [
          { name: 'forward proxy', address: '127.0.0.1', port: 15002, problem: '' },
          { name: 'orders (web.json)', address: '127.0.0.1', port: 9001, problem: '' },
        ],
      },
    ],
  },
  external: [],
  services: [
    {
      name: 'orders',
      protocol: 'http',
      addresses: ['240.240.1.2'],
      ports: [],
      instances: [{ host: 'beta', id: '1', port: 8080, weight: 100, local: false }],
    },
  ],
  manifests: [
    {
      file: 'web.json',
      service: 'web',
      verdict: 'accepted',
      judgedAtMs: now - 65_000,
      problems: [],
      requires: [],
      unit: '',
      upstreams: ['orders'],
      health: 'passing',
      healthDetail: '',
      healthSinceMs: now - 50_000,
      portsDown: [],
      published: true,
      withheld: '',
      revision: 12,
      rotation: 'in',
      open: null,
      speech: 'http/1.1',
      mismatch: '',
      certificateEndsMs: now + 23 * 3_600_000,
    },
  ],
  policies: {
    directory: { path: '/etc/mesh/policies.d', problem: '' },
    files: [],
    services: [],
  },
  machine: {
    openFiles: 1_048_576,
    callersWanted: 20_000,
    memoryFreeBytes: 2 ** 31,
    stateDirectory: '/var/lib/mesh/agent',
    stateFreeBytes: 2 ** 33,
    connectionsTracked: 100,
    connectionsTrackedMost: 65_536,
    localPorts: 28_232,
  },
  certificates: ['host/alpha', 'service/web'].map((path) => ({
    identity: `spiffe://mesh.internal/${path}`,
    serial: 'ab12',
    notBeforeMs: now - 3_600_000,
    notAfterMs: now + 23 * 3_600_000,
    problem: '',
    code: '',
    hint: '',
  })),
}

/** The healthy facts with another status. */
export function withStatus(status: Partial<StatusReport>): AgentFacts {
  return { ...healthyFacts, status: { ...healthyFacts.status, ...status } }
}
