/**
 * Owns the check of what a controller, or a file, says about the mesh: trust domain, trust bundle
 * and store. Nothing unchecked goes on from here.
 */

import type { Parsed, TrustDomain } from '#shared/model/names.ts'
import { parseTrustDomain } from '#shared/model/names.ts'
import { splitPem } from '#shared/pki/trust.ts'
import { parseHostPort } from '#shared/rpc/host-port.ts'
import type { MeshDescription, TrustRecord } from '#shared/rpc/host-messages.ts'

/** A description of the mesh that has been checked. */
export interface MeshFacts extends Omit<MeshDescription, 'trustRecords'> {
  readonly trustDomain: TrustDomain
}

const maxEndpoints = 32

/** Checks a description of the mesh. */
export function parseMesh(value: unknown): Parsed<MeshFacts> {
  const mesh = (value ?? {}) as Partial<MeshDescription>
  const { trustBundlePem, controller, store } = mesh
  const controllers = readControllers(mesh.controllers)
  const trustDomain = parseTrustDomain(String(mesh.trustDomain))
  if (!trustDomain.ok) return trustDomain
  if (typeof trustBundlePem !== 'string' || typeof controller !== 'string') {
    return { ok: false, problem: 'the description of the mesh is incomplete' }
  }
  const bundle = splitPem(trustBundlePem)
  if (!bundle.ok) return { ok: false, problem: `the trust bundle: ${bundle.problem}` }
  const { kind, serverName, endpoints } = store ?? {}
  if (kind !== 'embedded' && kind !== 'etcd') {
    return { ok: false, problem: `the store is of unknown kind ${JSON.stringify(kind)}` }
  }
  if (!isEndpoints(endpoints) || typeof serverName !== 'string') {
    return { ok: false, problem: 'the description of the store is incomplete' }
  }
  return {
    ok: true,
    value: {
      trustDomain: trustDomain.value,
      trustBundlePem,
      controller,
      controllers,
      store: { kind, serverName, endpoints },
    },
  }
}

/** In an order of its own, and none where a file or a controller is older; bad ones are left out. */
function readControllers(value: unknown): readonly string[] {
  if (!Array.isArray(value)) return []
  const addresses = value.filter(
    (item): item is string => typeof item === 'string' && parseHostPort(item).ok,
  )
  return [...new Set(addresses)].sort().slice(0, maxEndpoints)
}

/** The signed records of a description, to be judged by whoever knows the roots. */
export function trustRecordsOf({ trustRecords }: MeshDescription): readonly TrustRecord[] {
  return trustRecords.slice(0, 8)
}

function isEndpoints(value: unknown): value is readonly string[] {
  return (
    Array.isArray(value) &&
    value.length > 0 &&
    value.length <= maxEndpoints &&
    value.every((item) => typeof item === 'string' && /^https?:\/\/[^/]+$/.test(item))
  )
}
