/**
 * Owns the messages of `mesh.proto` that hosts and controllers exchange: enrolment, certificates, and
 * what a host must know of the mesh.
 */

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
