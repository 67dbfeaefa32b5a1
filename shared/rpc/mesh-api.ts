/**
 * Owns the types of `mesh.proto`'s messages and services and their loading. The types are written
 * by hand; a test holds them against the proto file. Longer than most: it is one API.
 */

import type { grpc } from './grpc.ts'
import { loadProto } from './grpc.ts'

export interface EnrolRequest {
  readonly token: string
  /** DER. */
  readonly csr: Buffer
  /** The name the host goes by. */
  readonly host: string
}

export interface EnrolReply {
  readonly certificate: Issued
  readonly mesh: MeshDescription
  readonly host: string
}

export interface RenewHostRequest {
  /** DER. */
  readonly csr: Buffer
}

export interface IssueServiceRequest {
  readonly service: string
  /** DER. */
  readonly csr: Buffer
}

/** A certificate as the controller hands it out. */
export interface Issued {
  /** Leaf first, then intermediates, PEM. */
  readonly chainPem: string
  readonly spiffeId: string
  /** Milliseconds since the epoch. */
  readonly notAfterMs: number
  /** Lower-case hexadecimal. */
  readonly serial: string
}

export interface DescribeMeshRequest {}

/** What a host must know of the mesh before it can take part. */
export interface MeshDescription {
  readonly trustDomain: string
  /** Every trusted root, PEM. */
  readonly trustBundlePem: string
  readonly store: StoreDescription
  /** The name of the controller that answered. */
  readonly controller: string
  /** `host:port` of every controller there is. */
  readonly controllers: readonly string[]
  /** Trust bundle and bans as the store has them, signed. */
  readonly trustRecords: readonly TrustRecord[]
}

/** A signed record and the key it stands under. */
export interface TrustRecord {
  readonly key: string
  readonly value: string
}

/** Where the store is. */
export interface StoreDescription {
  /** `embedded` or `etcd`. */
  readonly kind: string
  readonly endpoints: readonly string[]
  /** The DNS SAN its certificate must carry; empty for plain etcd. */
  readonly serverName: string
}

export interface CreateTokenRequest {
  readonly host: string
  /** Globs, `*` only. */
  readonly services: readonly string[]
  /** 0 for the default. */
  readonly ttlMs: number
}

export interface CreatedToken {
  readonly token: string
  /** Milliseconds since the epoch. */
  readonly expiresAtMs: number
}

export interface ListHostsRequest {}

export interface HostList {
  readonly hosts: readonly ListedHost[]
  readonly serials: readonly BannedSerial[]
  /** Epoch of the bans in force. */
  readonly bansEpoch: number
}

export interface BannedSerial {
  readonly serial: string
  readonly reason: string
  /** RFC 3339. */
  readonly at: string
}

export interface ListedHost {
  readonly host: string
  readonly services: readonly string[]
  /** RFC 3339. */
  readonly enrolledAt: string
  /** Null where it is not banned. */
  readonly ban: { readonly reason: string; readonly at: string } | null
  /** Whether its agent is there now. */
  readonly live: boolean
  /** Epoch of the bans its workers act on; 0 where that is not known. */
  readonly bansEpoch: number
}

/** Names a host or a serial, not both. */
export interface BanRequest {
  readonly host: string
  readonly serial: string
  readonly reason: string
}

export interface BanReply {
  /** False where that was so already. */
  readonly changed: boolean
  /** Hosts whose `bansEpoch` is at least this act on the change. */
  readonly bansEpoch: number
}

export interface SetHostServicesRequest {
  readonly host: string
  /** Globs, `*` only. */
  readonly services: readonly string[]
}

export interface RotateRootRequest {
  /** `begin`, `abort` or `status`. */
  readonly action: string
}

/** How a rotation of the root stands. */
export interface RotationStatus {
  /** `steady`, `distributing`, `reissuing` or `going back`. */
  readonly phase: string
  /** Milliseconds since the epoch; 0 while steady. */
  readonly sinceMs: number
  /** The trust bundle that tells hosts of it. */
  readonly bundleEpoch: number
  readonly roots: readonly ListedRoot[]
  readonly waitsFor: readonly { readonly host: string; readonly why: string }[]
  readonly hostsLive: number
  /** Live hosts that act on that bundle. */
  readonly hostsReady: number
}

export interface ListedRoot {
  /** First 16 digits of its SHA-256. */
  readonly name: string
  /** Milliseconds since the epoch. */
  readonly endsMs: number
  /** `issuing`, `next` or `leaving`. */
  readonly state: string
  /** Certificates live hosts hold under it. */
  readonly held: number
}

export interface DescribeStoreRequest {}

/** Where the store is and how it fares. */
export interface StoreReport {
  readonly store: StoreDescription
  /** Of etcd's API. */
  readonly version: string
  readonly revision: number
  readonly bytes: number
  readonly bytesInUse: number
  readonly hasLeader: boolean
  /** What the store says is wrong with it. */
  readonly problems: readonly string[]
  /** Where its content has moved; empty where it has not. */
  readonly movedTo: string
  /** What is dangerous about it, and what to do. */
  readonly warnings: readonly string[]
}

export interface MigrateStoreRequest {
  readonly endpoints: readonly string[]
  /** Whether keys of a mesh that are there already are deleted first. */
  readonly replace: boolean
}

/** What was copied. */
export interface MigrateStoreReply {
  readonly keys: number
  /** Those that hosts own. */
  readonly leased: number
  /** How long those live without their host. */
  readonly bridgeMs: number
}

export interface UndoMigrationRequest {}

export interface UndoMigrationReply {
  /** Where it had moved. */
  readonly movedTo: string
}

export interface IssueStoreNodeRequest {
  readonly node: string
  /** DNS names and IP addresses at which the node is reached. */
  readonly addresses: readonly string[]
  /** DER. */
  readonly serverCsr: Buffer
  /** DER. */
  readonly peerCsr: Buffer
}

/** What a node of an etcd cluster serves with, and what it meets its peers with. */
export interface StoreNodeCertificates {
  /** Leaf first, PEM. */
  readonly serverChainPem: string
  readonly peerChainPem: string
  readonly trustBundlePem: string
  /** The name that etcd must demand of its peers. */
  readonly peerName: string
  /** Milliseconds since the epoch. */
  readonly notAfterMs: number
}

export interface InitStoreRequest {
  /** `https://host:port`. */
  readonly endpoints: readonly string[]
}

export interface InitStoreReply {
  /** Users that may do everything. */
  readonly admins: readonly string[]
  readonly hosts: number
  /** Exact ranges of services that hosts may write. */
  readonly ranges: number
}

export interface AdmitRequest {
  /** The new controller's name. */
  readonly name: string
  /** DER. */
  readonly csr: Buffer
}

export interface AdmitReply {
  /** The issuing certificate and the root, PEM. */
  readonly certificatesPem: string
}

export interface ListControllersRequest {}

export interface ControllerList {
  readonly controllers: readonly ListedController[]
  /** The name of the one that leads; empty while that is nobody. */
  readonly leader: string
}

export interface ListedController {
  readonly name: string
  /** `host:port`. */
  readonly address: string
}

export interface ListCertificatesRequest {
  /** Of one host; empty for all. */
  readonly host: string
  /** Also those that have ended. */
  readonly ended: boolean
  /** 0 for the default. */
  readonly limit: number
}

export interface CertificateList {
  /** The first to end first. */
  readonly certificates: readonly IssuedCertificate[]
  /** Whether there are more than the limit. */
  readonly more: boolean
}

/** A certificate as the journal remembers it. */
export interface IssuedCertificate {
  /** The SPIFFE id, or what else the subject is. */
  readonly subject: string
  /** The host it was issued to; empty where it was none. */
  readonly host: string
  readonly serial: string
  /** Milliseconds since the epoch. */
  readonly issuedAtMs: number
  /** Milliseconds since the epoch. */
  readonly notAfterMs: number
  /** The controller that signed. */
  readonly controller: string
}

export interface PutPolicyRequest {
  readonly name: string
  /** A policy file, JSON. */
  readonly text: string
}

export interface RemovePolicyRequest {
  readonly name: string
}

/** What came of a change of policies. */
export interface PolicyReply {
  /** False where everything was so already. */
  readonly changed: boolean
  /** Of the policies in force now. */
  readonly epoch: number
}

export interface ListPoliciesRequest {}

export interface PolicyList {
  readonly policies: readonly ListedPolicy[]
  readonly epoch: number
}

/** A policy that holds on every host. */
export interface ListedPolicy {
  readonly name: string
  readonly text: string
  /** SPIFFE id of the operator. */
  readonly by: string
  /** RFC 3339. */
  readonly at: string
}

/** A method's two messages. */
export interface Method<Request, Reply> {
  readonly request: Request
  readonly reply: Reply
}

/** The services of `mesh.proto` and their methods. */
export interface MeshServices {
  readonly Enrolment: {
    readonly Enrol: Method<EnrolRequest, EnrolReply>
  }
  readonly Certificates: {
    readonly RenewHost: Method<RenewHostRequest, Issued>
    readonly IssueService: Method<IssueServiceRequest, Issued>
    readonly DescribeMesh: Method<DescribeMeshRequest, MeshDescription>
  }
  readonly Operations: {
    readonly CreateToken: Method<CreateTokenRequest, CreatedToken>
    readonly ListHosts: Method<ListHostsRequest, HostList>
    readonly Ban: Method<BanRequest, BanReply>
    readonly Unban: Method<BanRequest, BanReply>
    readonly SetHostServices: Method<SetHostServicesRequest, ListedHost>
    readonly RotateRoot: Method<RotateRootRequest, RotationStatus>
  }
  readonly Policies: {
    readonly PutPolicy: Method<PutPolicyRequest, PolicyReply>
    readonly RemovePolicy: Method<RemovePolicyRequest, PolicyReply>
    readonly ListPolicies: Method<ListPoliciesRequest, PolicyList>
  }
  readonly StoreOperations: {
    readonly DescribeStore: Method<DescribeStoreRequest, StoreReport>
    readonly IssueStoreNode: Method<IssueStoreNodeRequest, StoreNodeCertificates>
    readonly InitStore: Method<InitStoreRequest, InitStoreReply>
    readonly MigrateStore: Method<MigrateStoreRequest, MigrateStoreReply>
    readonly UndoMigration: Method<UndoMigrationRequest, UndoMigrationReply>
  }
  readonly Controllers: {
    readonly Admit: Method<AdmitRequest, AdmitReply>
    readonly ListControllers: Method<ListControllersRequest, ControllerList>
  }
  readonly Journal: {
    readonly ListCertificates: Method<ListCertificatesRequest, CertificateList>
  }
}

/** Name of a service of `mesh.proto`. */
export type ServiceKey = keyof MeshServices
/** Name of a method of a service. */
export type MethodKey<S extends ServiceKey> = keyof MeshServices[S] & string
/** What a method takes. */
export type RequestOf<S extends ServiceKey, M extends MethodKey<S>> =
  MeshServices[S][M] extends Method<infer Request, unknown> ? Request : never
/** What a method answers. */
export type ReplyOf<S extends ServiceKey, M extends MethodKey<S>> =
  MeshServices[S][M] extends Method<unknown, infer Reply> ? Reply : never

const loaded = loadProto(new URL('./mesh.proto', import.meta.url))

/** The wire definition of a service; throws when the proto file lacks it. */
export function definitionOf(service: ServiceKey): grpc.ServiceDefinition {
  const definition = loaded[`hostmesh.v1.${service}`]
  if (definition === undefined) throw new TypeError(`mesh.proto has no service ${service}`)
  return definition
}
