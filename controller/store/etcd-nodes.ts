/**
 * Owns how far the nodes of an etcd follow a rotation of the root. A node reports nothing, so it is
 * asked by a handshake: whether it takes a certificate under the root that stays, and whether it
 * shows one itself. It changes nothing there, and asks for nothing that needs a user's rights.
 */

import { createPublicKey } from 'node:crypto'
import { request } from 'node:https'
import type { Authority } from '#controller/ca/authority.ts'
import type { StoreNodeFacts } from '#controller/ca/rotation.ts'
import { issuingSlot } from '#controller/ca/rotation.ts'
import type { SlotId } from '#controller/ca/rotation.ts'
import type { Clock } from '#shared/lifecycle/clock.ts'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { HostName } from '#shared/model/names.ts'
import { storeDnsName } from '#shared/model/spiffe-id.ts'
import { generateKey, keyToPem } from '#shared/pki/keys.ts'

/** What it leans on. */
export interface EtcdNodesParts {
  readonly authority: Authority
  readonly clock: Pick<Clock, 'now' | 'elapsed'>
}

/** Its settings. */
export interface EtcdNodesSettings {
  /** This controller's name. */
  readonly controller: HostName
  /** URLs of every node; those over plain HTTP trust everybody, and are not asked. */
  readonly endpoints: readonly string[]
}

/** What a node is asked with. */
interface Proof {
  readonly slot: SlotId
  readonly cert: string
  readonly key: string
  /** Milliseconds since the epoch. */
  readonly endsMs: number
}

const askEveryMs = 2000
const answerWithinMs = 2000
/** A proof is made anew this long before its end. */
const spareMs = 5000
/** What OpenSSL calls a chain that ends at a root it was not given. */
const ofAnotherRoot = new Set([
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'SELF_SIGNED_CERT_IN_CHAIN',
])

/** See the header. */
export class EtcdNodes {
  readonly #parts: EtcdNodesParts
  readonly #settings: EtcdNodesSettings
  readonly #endpoints: readonly URL[]
  #proof: Proof | null = null
  #asked: { readonly key: string; readonly atMs: number } = { key: '', atMs: 0 }
  #known: Promise<readonly StoreNodeFacts[]> = Promise.resolve([])

  constructor(parts: EtcdNodesParts, settings: EtcdNodesSettings) {
    this.#parts = parts
    this.#settings = settings
    this.#endpoints = settings.endpoints
      .map((endpoint) => new URL('/version', endpoint))
      .filter(({ protocol }) => protocol === 'https:')
  }

  /** How each node fares in the CA's phase now, at most two seconds old. Throws what the CA throws. */
  look(): Promise<readonly StoreNodeFacts[]> {
    const { phase } = this.#parts.authority
    if (phase.kind === 'steady' || this.#endpoints.length === 0) return Promise.resolve([])
    const nowMs = this.#parts.clock.elapsed()
    const key = JSON.stringify(phase)
    if (key !== this.#asked.key || nowMs - this.#asked.atMs >= askEveryMs) {
      this.#asked = { key, atMs: nowMs }
      // Until all have the next root nothing is certified under it: there the question is trust alone.
      const { authority } = this.#parts
      this.#known =
        phase.kind === 'distributing'
          ? this.#askAll(phase.next, authority.bundlePem)
          : this.#askAll(issuingSlot(phase), authority.rootPemOf(issuingSlot(phase)))
    }
    return this.#known
  }

  async #askAll(slot: SlotId, ca: string): Promise<readonly StoreNodeFacts[]> {
    const proof = await this.#proofOf(slot)
    const servername = storeDnsName(this.#parts.authority.trustDomain)
    return Promise.all(this.#endpoints.map((url) => ask(url, { ...proof, ca, servername })))
  }

  /** A certificate of this controller under a root, kept while it is good. */
  async #proofOf(slot: SlotId): Promise<Proof> {
    const { authority, clock } = this.#parts
    const held = this.#proof
    if (held?.slot === slot && held.endsMs - spareMs > clock.now()) return held
    const key = await generateKey()
    const publicKey = createPublicKey(key)
    const issued = await authority.issueController(this.#settings.controller, publicKey, slot)
    const { chainPem: cert, notAfterMs: endsMs } = issued
    this.#proof = { slot, cert, key: keyToPem(key), endsMs }
    return this.#proof
  }
}

function ask(
  url: URL,
  tls: { readonly cert: string; key: string; ca: string; servername: string },
): Promise<StoreNodeFacts> {
  const { cert, key, ca, servername } = tls
  return new Promise((resolve) => {
    const signal = AbortSignal.timeout(answerWithinMs)
    const options = { agent: false, cert, key, ca, servername, signal } as const
    const asked = request(url, options, (response) => {
      resolve({ node: url.host, isAway: false, problem: '' })
      asked.destroy()
      response.on('error', () => {})
    })
    asked.on('error', (error: NodeJS.ErrnoException) => {
      resolve({ node: url.host, ...readFault(error) })
    })
    asked.end()
  })
}

/** What a handshake that failed says of a node. */
function readFault(error: NodeJS.ErrnoException): Omit<StoreNodeFacts, 'node'> {
  const code = error.code ?? ''
  if (code.startsWith('ERR_SSL') && code.includes('ALERT')) {
    const problem =
      'it does not trust the root that stays: bring it the new ca.pem (meshctl store certificate) and restart it'
    return { isAway: false, problem }
  }
  if (ofAnotherRoot.has(code)) {
    const problem =
      'its certificate is of the root that goes: certify it anew (meshctl store certificate)'
    return { isAway: false, problem }
  }
  const why = error.name === 'AbortError' ? 'no answer within 2 s' : messageOf(error)
  return { isAway: true, problem: `it cannot be asked: ${why}` }
}
