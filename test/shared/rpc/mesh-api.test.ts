/** Holds the hand-written message types against mesh.proto: every field survives the wire. */

import t from 'tap'
import type { MethodKey, ReplyOf, RequestOf, ServiceKey } from '#shared/rpc/mesh-api.ts'
import { definitionOf } from '#shared/rpc/mesh-api.ts'

type Samples = {
  readonly [S in ServiceKey]: {
    readonly [M in MethodKey<S>]: readonly [Required<RequestOf<S, M>>, Required<ReplyOf<S, M>>]
  }
}

const csr = Buffer.from('csr')
const issued = { chainPem: 'chain', spiffeId: 'id', notAfterMs: 1_795_000_000_000, serial: 'ab' }
const mesh = {
  trustDomain: 'mesh.internal',
  trustBundlePem: 'pem',
  store: { kind: 'etcd', endpoints: ['http://127.0.0.1:2379'], serverName: 'c1' },
  controller: 'c1',
  controllers: ['10.0.0.1:15010', '10.0.0.2:15010'],
  trustRecords: [{ key: 'k', value: 'v' }],
}
const host = {
  host: 'h1',
  services: ['*'],
  enrolledAt: '2026-01-01',
  ban: { reason: 'lost', at: '2026-01-02' },
  live: true,
  bansEpoch: 3,
}
const ban = { host: 'h1', serial: 'ab', reason: 'lost' }

/** Typed so that a field of the types that is missing here does not compile. */
const samples: Samples = {
  Enrolment: {
    Enrol: [
      { token: 'token', csr, host: 'h1' },
      { certificate: issued, mesh, host: 'h1' },
    ],
  },
  Certificates: {
    RenewHost: [{ csr }, issued],
    IssueService: [{ service: 'orders', csr }, issued],
    DescribeMesh: [{}, mesh],
  },
  Operations: {
    CreateToken: [
      { host: 'h1', services: ['*'], ttlMs: 1000 },
      { token: 'token', expiresAtMs: 1_795_000_000_000 },
    ],
    ListHosts: [
      {},
      {
        hosts: [host],
        serials: [{ serial: 'ab', reason: 'lost', at: '2026-01-02' }],
        bansEpoch: 3,
      },
    ],
    Ban: [ban, { changed: true, bansEpoch: 4 }],
    Unban: [ban, { changed: true, bansEpoch: 4 }],
    SetHostServices: [{ host: 'h1', services: ['a'] }, host],
    RotateRoot: [
      { action: 'status' },
      {
        phase: 'reissuing',
        sinceMs: 1_795_000_000_000,
        bundleEpoch: 3,
        roots: [{ name: 'ab', endsMs: 1_795_000_000_000, state: 'leaving', held: 2 }],
        waitsFor: [{ host: 'h1', why: 'it is slow' }],
        hostsLive: 2,
        hostsReady: 1,
      },
    ],
  },
  Policies: {
    PutPolicy: [
      { name: 'orders', text: '{}' },
      { changed: true, epoch: 4 },
    ],
    RemovePolicy: [{ name: 'orders' }, { changed: false, epoch: 4 }],
    ListPolicies: [
      {},
      {
        policies: [
          { name: 'orders', text: '{}', by: 'spiffe://mesh.internal/operator/a', at: '2026-01-01' },
        ],
        epoch: 4,
      },
    ],
  },
  StoreOperations: {
    DescribeStore: [
      {},
      {
        store: mesh.store,
        version: '3.4.0',
        revision: 7,
        bytes: 4096,
        bytesInUse: 1024,
        hasLeader: true,
        problems: ['disk full'],
        movedTo: 'https://10.0.0.1:2379',
        warnings: ['access control is off'],
      },
    ],
    IssueStoreNode: [
      { node: 'e1', addresses: ['10.0.0.1'], serverCsr: csr, peerCsr: csr },
      {
        serverChainPem: 'a',
        peerChainPem: 'b',
        trustBundlePem: 'c',
        peerName: 'peer.store.mesh.internal',
        notAfterMs: 1_795_000_000_000,
      },
    ],
    MigrateStore: [
      { endpoints: ['https://10.0.0.1:2379'], replace: true },
      { keys: 3, leased: 1, bridgeMs: 600_000 },
    ],
    UndoMigration: [{}, { movedTo: 'https://10.0.0.1:2379' }],
    InitStore: [
      { endpoints: ['https://10.0.0.1:2379'] },
      { admins: ['controller/c1'], hosts: 2, ranges: 3 },
    ],
  },
  Controllers: {
    Admit: [{ name: 'c2', csr }, { certificatesPem: 'pem' }],
    ListControllers: [
      {},
      { controllers: [{ name: 'c1', address: '10.0.0.1:15010' }], leader: 'c1' },
    ],
  },
  Journal: {
    ListCertificates: [
      { host: 'h1', ended: true, limit: 10 },
      {
        certificates: [
          {
            subject: 'spiffe://mesh.internal/host/h1',
            host: 'h1',
            serial: 'ab',
            issuedAtMs: 1_795_000_000_000,
            notAfterMs: 1_795_000_000_001,
            controller: 'c1',
          },
        ],
        more: true,
      },
    ],
  },
}

t.test('every field of every message survives the wire under its typed name', async (t) => {
  for (const [service, methods] of Object.entries(samples)) {
    const definition = definitionOf(service as ServiceKey)
    for (const [method, [request, reply]] of Object.entries(methods)) {
      const found = definition[method]
      if (found === undefined) {
        t.fail(`${service}.${method} is not in the proto file`)
        continue
      }
      t.same(found.requestDeserialize(found.requestSerialize(request)), request, method)
      t.same(found.responseDeserialize(found.responseSerialize(reply)), reply, method)
    }
  }
})

t.test('the types name every method of the proto file, and no other', async (t) => {
  for (const service of Object.keys(samples) as ServiceKey[]) {
    t.same(Object.keys(definitionOf(service)).sort(), Object.keys(samples[service]).sort())
  }
})
