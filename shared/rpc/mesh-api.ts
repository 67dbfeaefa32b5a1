/**
 * Owns the services of `mesh.proto` as types, which messages their methods take and answer, and their
 * loading. The types are written by hand; a test holds them against the proto file.
 */

import type { grpc } from './grpc.ts'
import { loadProto } from './grpc.ts'
import type {
  DescribeMeshRequest,
  EnrolReply,
  EnrolRequest,
  IssueServiceRequest,
  Issued,
  MeshDescription,
  RenewHostRequest,
} from './host-messages.ts'
import type {
  AdmitReply,
  AdmitRequest,
  BanReply,
  BanRequest,
  CertificateList,
  ControllerList,
  CreateTokenRequest,
  CreatedToken,
  HostList,
  ListCertificatesRequest,
  ListControllersRequest,
  ListHostsRequest,
  ListPoliciesRequest,
  ListedHost,
  PolicyList,
  PolicyReply,
  PutPolicyRequest,
  RemovePolicyRequest,
  RotateRootRequest,
  RotationStatus,
  SetHostServicesRequest,
} from './operator-messages.ts'
import type {
  DescribeStoreRequest,
  InitStoreReply,
  InitStoreRequest,
  IssueStoreNodeRequest,
  MigrateStoreReply,
  MigrateStoreRequest,
  StoreNodeCertificates,
  StoreReport,
  UndoMigrationReply,
  UndoMigrationRequest,
} from './store-messages.ts'

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
