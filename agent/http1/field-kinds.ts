/**
 * Owns the catalogue of field names the mesh cares about. A name is found by its bytes, without
 * making a string of it, and spellings that services may take for one another (`X_Mesh_Source`,
 * `x.mesh.source`) are found with it. What becomes of a kind is `hygiene.ts`'s matter. Pure.
 */

import { foldedBytes } from './bytes.ts'

/** What a field is to the mesh; small numbers, because plans are tables by kind. */
export const kinds = {
  /** Nothing: it goes on as it is. */
  plain: 0,
  host: 1,
  contentLength: 2,
  transferEncoding: 3,
  connection: 4,
  upgrade: 5,
  expect: 6,
  /** Ends at this hop (RFC 9110 §7.6.1). */
  hop: 7,
  /** May bind an identity to a connection (NTLM, Negotiate). */
  authentication: 8,
  requestId: 9,
  /** Says on what way a request came. */
  forwarding: 10,
  /** Says who the caller is, in other meshes. */
  identity: 11,
  /** `x-mesh-*`. */
  mesh: 12,
  meshReason: 13,
  /** Named by `Connection`. */
  nominated: 14,
  /** Another spelling of a name that frames or routes. */
  lookalike: 15,
  /** Another spelling of a name that identifies. */
  disguise: 16,
} as const

/** One of {@link kinds}. */
export type FieldKind = (typeof kinds)[keyof typeof kinds]

const catalogue: readonly (readonly [FieldKind, string])[] = [
  [kinds.host, 'host'],
  [kinds.contentLength, 'content-length'],
  [kinds.transferEncoding, 'transfer-encoding'],
  [kinds.connection, 'connection'],
  [kinds.upgrade, 'upgrade'],
  [kinds.expect, 'expect'],
  [kinds.hop, 'keep-alive proxy-connection te http2-settings proxy-authorization'],
  [kinds.hop, 'proxy-authentication-info'],
  [kinds.authentication, 'authorization www-authenticate'],
  [kinds.hop, 'proxy-authenticate'],
  [kinds.requestId, 'x-request-id'],
  [kinds.forwarding, 'forwarded x-forwarded-for x-forwarded-proto x-forwarded-host'],
  [kinds.forwarding, 'x-forwarded-port x-real-ip'],
  [kinds.identity, 'x-forwarded-client-cert'],
  [kinds.meshReason, 'x-mesh-reason'],
]

interface Name {
  readonly bytes: Uint8Array
  readonly kind: FieldKind
}

/** Names by their length and first letter. */
const shelves = Array.from<readonly Name[] | null>({ length: 32 * 32 }).fill(null)
for (const [kind, names] of catalogue) {
  for (const name of names.split(' ')) {
    const bytes = Buffer.from(name, 'latin1')
    const shelf = shelfOf(bytes.length, bytes[0] as number)
    shelves[shelf] = [...(shelves[shelf] ?? []), { bytes, kind }]
  }
}
const meshPrefix = Buffer.from('x-mesh-', 'latin1')
const letterX = 0x78

function shelfOf(length: number, firstByte: number): number {
  return (length << 5) | (firstByte & 31)
}

/** The kind of the name in `bytes` from `start` to before `end`. */
export function kindOf(bytes: Buffer, start: number, end: number): FieldKind {
  const length = end - start
  const first = foldedBytes[bytes[start] as number] as number
  const shelf = length < 32 ? shelves[shelfOf(length, first)] : null
  if (shelf !== null && shelf !== undefined) {
    for (const { bytes: name, kind } of shelf) {
      if (matches(bytes, start, name)) return isExact(bytes, start, end) ? kind : variantOf(kind)
    }
  }
  if (first === letterX && length > meshPrefix.length && matches(bytes, start, meshPrefix)) {
    return isExact(bytes, start, end) ? kinds.mesh : kinds.disguise
  }
  return kinds.plain
}

function matches(bytes: Buffer, start: number, name: Uint8Array): boolean {
  for (let i = 0; i < name.length; i++) {
    if (foldedBytes[bytes[start + i] as number] !== name[i]) return false
  }
  return true
}

/** Whether nothing but hyphens stands for the hyphens. */
function isExact(bytes: Buffer, start: number, end: number): boolean {
  for (let i = start; i < end; i++) {
    const byte = bytes[i] as number
    if (foldedBytes[byte] === 0x2d && byte !== 0x2d) return false
  }
  return true
}

/** What another spelling of a name counts as. */
function variantOf(kind: FieldKind): FieldKind {
  switch (kind) {
    case kinds.host:
    case kinds.contentLength:
    case kinds.transferEncoding:
    case kinds.connection:
    case kinds.upgrade:
    case kinds.expect:
      return kinds.lookalike
    case kinds.hop:
    case kinds.requestId:
    case kinds.forwarding:
    case kinds.identity:
    case kinds.mesh:
    case kinds.meshReason:
      return kinds.disguise
    case kinds.plain:
    case kinds.authentication:
    case kinds.nominated:
    case kinds.lookalike:
    case kinds.disguise:
      return kinds.plain
  }
}
