/**
 * Owns who may do what in the embedded store. Pure. Controllers and operators may do everything; a
 * host reads the mesh and writes its own presence, its report on trust and its own instances of
 * services it may speak for, one key at a time; nobody else may do anything. A lease is used only by who granted it.
 */

import type { HostName } from '#shared/model/names.ts'
import { parseHostName } from '#shared/model/names.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import { splitSpiffeId } from '#shared/model/spiffe-id.ts'
import type { MeshKey } from '#shared/store/keys.ts'
import { meshPrefix, parseMeshKey, parseTrustReportKey } from '#shared/store/keys.ts'
import { endOfPrefix } from '#shared/store/wire-key-value.ts'
import type { KeyRange, PutRequest, RequestOp, TxnRequest } from '#shared/store/wire.ts'
import { coversService } from '#shared/model/service-globs.ts'

/** What a caller may do. */
export type Access =
  | { readonly kind: 'everything'; readonly id: SpiffeId }
  | { readonly kind: 'host'; readonly id: SpiffeId; readonly host: HostName }
  | { readonly kind: 'nothing' }

/** What the store knows of callers. */
export interface AccessFacts {
  /** Who granted a lease; null when there is no such lease. */
  leaseOwner(lease: string): string | null
  /** Globs of the services a host may speak for; empty for a host without a record. */
  hostServices(host: HostName): readonly string[]
}

const firstReadable = Buffer.from(meshPrefix)
const endReadable = endOfPrefix(meshPrefix)
const noBytes = Buffer.alloc(0)

/** The access of an identity proven by mTLS; null: none was proven. */
export function accessOf(id: SpiffeId | null): Access {
  const parts = id === null ? null : splitSpiffeId(id)
  if (id === null || parts === null || !parts.ok) return { kind: 'nothing' }
  switch (parts.value.kind) {
    case 'controller':
    case 'operator':
      return { kind: 'everything', id }
    case 'host': {
      const host = parseHostName(parts.value.name)
      return host.ok ? { kind: 'host', id, host: host.value } : { kind: 'nothing' }
    }
    case 'service':
      return { kind: 'nothing' }
  }
}

/** Whether every key of a range may be read. */
export function mayRead(
  access: Access,
  { key = noBytes, range_end: end = noBytes }: KeyRange,
): boolean {
  if (access.kind !== 'host') return access.kind === 'everything'
  const inside = Buffer.compare(key, firstReadable) >= 0 && Buffer.compare(key, endReadable) < 0
  const open = end.length === 1 && end[0] === 0
  return inside && !open && Buffer.compare(end, endReadable) <= 0
}

/** Whether a put is allowed, its lease included. */
export function mayPut(access: Access, request: PutRequest, facts: AccessFacts): boolean {
  if (access.kind !== 'host') return access.kind === 'everything'
  const key = ownKey(access.host, request)
  return (
    key !== null &&
    (key.kind !== 'instance' || coversService(facts.hostServices(access.host), key.service)) &&
    mayUseLease(access, request.lease ?? '0', facts)
  )
}

/** Whether every key of a range may be deleted; a host's own may be, whatever it may speak for. */
export function mayDelete(access: Access, range: KeyRange): boolean {
  if (access.kind !== 'host') return access.kind === 'everything'
  return ownKey(access.host, range) !== null
}

/** Whether a lease may be renewed, revoked, looked at and put under. One that is gone may. */
export function mayUseLease(access: Access, lease: string, facts: AccessFacts): boolean {
  if (access.kind !== 'host') return access.kind === 'everything'
  const owner = lease === '0' ? null : facts.leaseOwner(lease)
  return owner === null || owner === access.id
}

/** Whether every comparison and every operation of both branches is allowed. */
export function mayTransact(access: Access, request: TxnRequest, facts: AccessFacts): boolean {
  const { compare = [], success = [], failure = [] } = request
  const allowed = (operation: RequestOp): boolean => {
    if (operation.request_range) return mayRead(access, operation.request_range)
    if (operation.request_delete_range) return mayDelete(access, operation.request_delete_range)
    if (operation.request_txn) return mayTransact(access, operation.request_txn, facts)
    return !operation.request_put || mayPut(access, operation.request_put, facts)
  }
  return (
    access.kind !== 'nothing' &&
    compare.every((comparison) => mayRead(access, comparison)) &&
    [...success, ...failure].every(allowed)
  )
}

type OwnKey =
  Extract<MeshKey, { readonly kind: 'instance' | 'presence' }> | { readonly kind: 'trust-report' }

/** The one key of a range, if it is one that this host writes. */
function ownKey(
  host: HostName,
  { key = noBytes, range_end: end = noBytes }: KeyRange,
): OwnKey | null {
  if (end.length === 0 && parseTrustReportKey(key.toString('latin1')) === host) {
    return { kind: 'trust-report' }
  }
  const parsed = parseMeshKey(key.toString('latin1'))
  if (end.length > 0 || !parsed.ok) return null
  switch (parsed.value.kind) {
    case 'instance':
    case 'presence':
      return parsed.value.host === host ? parsed.value : null
    case 'host':
    case 'trust':
    case 'unknown':
      return null
  }
}
