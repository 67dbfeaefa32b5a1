/**
 * Owns the messages of `mesh.proto` by which operators look after the mesh: tokens, hosts and bans, the
 * root, policies, controllers and the journal of certificates.
 */

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
