/**
 * Owns the first contact: fetches a controller's root certificate over a connection that proves
 * nothing, and accepts it only when it has the hash a join token pins. Not a byte is sent on that
 * connection; whoever calls connects anew with the root as its only CA.
 */

import type { DetailedPeerCertificate } from 'node:tls'
import { connect } from 'node:tls'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import { must } from '#shared/model/names.ts'
import { certificateHash, certificateToPem } from '#shared/pki/trust.ts'
import { parseHostPort } from './host-port.ts'

/** Settings of a fetch. */
export interface PinnedRootSettings {
  /** `host:port`. */
  readonly address: string
  /** SHA-256 of the root, 32 bytes. */
  readonly hash: Buffer
  /** Gives up. */
  readonly signal?: AbortSignal
  /** @default 10_000 */
  readonly timeoutMs?: number
}

/** A chain longer than this holds no root of ours. */
const maxChain = 8

/**
 * The root with that hash, PEM. Throws MeshError `controller-unavailable`, or `root-mismatch` when
 * the server presents no such root.
 */
export async function fetchPinnedRoot(settings: PinnedRootSettings): Promise<string> {
  const { host, port } = must(parseHostPort(settings.address))
  const { promise, resolve, reject } = Promise.withResolvers<DetailedPeerCertificate>()
  const socket = connect({
    host,
    port,
    ALPNProtocols: ['h2'],
    minVersion: 'TLSv1.3',
    // Nothing is trusted here but the hash, compared below.
    rejectUnauthorized: false,
  })
  const abort = (): void => reject(new Error('given up on this side'))
  if (settings.signal?.aborted === true) abort()
  settings.signal?.addEventListener('abort', abort)
  socket.setTimeout(settings.timeoutMs ?? 10_000, () => reject(new Error('no answer in time')))
  socket.on('error', reject)
  socket.on('close', () => reject(new Error('the connection was closed')))
  socket.once('secureConnect', () => resolve(socket.getPeerCertificate(true)))
  try {
    const root = findPinned(await promise, settings.hash)
    if (root !== null) return certificateToPem(root)
  } catch (error) {
    throw new MeshError(`controller ${settings.address}: ${messageOf(error)}`, {
      code: 'controller-unavailable',
      hint: 'is mesh-controller running there, and is the address right?',
      retry: true,
      cause: error,
    })
  } finally {
    settings.signal?.removeEventListener('abort', abort)
    socket.destroy()
  }
  throw new MeshError(
    `the server at ${settings.address} does not present the root certificate the join token pins`,
    {
      code: 'root-mismatch',
      hint: "the token is for another mesh, or this is not the mesh's controller: make a new token",
    },
  )
}

function findPinned(leaf: DetailedPeerCertificate, hash: Buffer): Buffer | null {
  let certificate: DetailedPeerCertificate | undefined = leaf
  for (let depth = 0; depth < maxChain && certificate?.raw !== undefined; depth++) {
    if (certificateHash(certificate.raw).equals(hash)) return certificate.raw
    const issuer: DetailedPeerCertificate | undefined = certificate.issuerCertificate
    certificate = issuer === certificate ? undefined : issuer
  }
  return null
}
