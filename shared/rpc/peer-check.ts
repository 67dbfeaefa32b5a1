/**
 * Owns what a client demands of a server's identity, and the channel credentials that demand it.
 * The check runs only on a chain that OpenSSL has verified against the context's own CA.
 */

import type { PeerCertificate, SecureContext } from 'node:tls'
import type { Parsed, TrustDomain } from '#shared/model/names.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import { splitSpiffeId } from '#shared/model/spiffe-id.ts'
import type { Svid } from '#shared/pki/svid.ts'
import { readAnySvid, readSvid } from '#shared/pki/svid.ts'
import { grpc } from './grpc.ts'

/** Which server a client will talk to. */
export type ExpectedPeer =
  | { readonly kind: 'exactly'; readonly id: SpiffeId; readonly trustDomain: TrustDomain }
  /** Any controller of the trust domain. */
  | { readonly kind: 'controller'; readonly trustDomain: TrustDomain }
  /** Any controller under the one root a join token pins; the trust domain is not known yet. */
  | { readonly kind: 'first-controller' }

/** Why a certificate that is good otherwise is worth nothing, or an empty string. */
export type RefusalOf = (svid: Svid) => string

/** The server's identity when it is the expected one; else why not. */
export function checkPeer(
  der: Buffer,
  expected: ExpectedPeer,
  refusalOf: RefusalOf = () => '',
): Parsed<SpiffeId> {
  const svid =
    expected.kind === 'first-controller' ? readAnySvid(der) : readSvid(der, expected.trustDomain)
  if (!svid.ok) return { ok: false, problem: `the server's ${svid.problem}` }
  const { id } = svid.value
  const refusal = refusalOf(svid.value)
  if (refusal !== '') return { ok: false, problem: `the server's ${refusal}` }
  switch (expected.kind) {
    case 'exactly':
      return id === expected.id
        ? { ok: true, value: id }
        : { ok: false, problem: `the server is ${id}, not ${expected.id}` }
    case 'controller':
    case 'first-controller': {
      const parts = splitSpiffeId(id)
      return parts.ok && parts.value.kind === 'controller'
        ? { ok: true, value: id }
        : { ok: false, problem: `the server is ${id}, not a controller` }
    }
  }
}

/** Channel credentials that accept the expected server and nobody else. */
export function channelCredentials(
  context: SecureContext,
  expected: ExpectedPeer,
  refusalOf?: RefusalOf,
): grpc.ChannelCredentials {
  return grpc.credentials.createFromSecureContext(context, {
    checkServerIdentity(_host: string, certificate: PeerCertificate) {
      const peer = checkPeer(certificate.raw, expected, refusalOf)
      return peer.ok ? undefined : new Error(peer.problem)
    },
  })
}
