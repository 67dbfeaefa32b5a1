/**
 * Owns how controllers come by issuing certificates of their own under a root that another one has
 * made, over the store they share: each signs its request with the key it issues by now, and the one
 * that holds the root's key answers. No key travels. It decides nothing about a rotation.
 */

import type { KeyObject } from 'node:crypto'
import { X509Certificate, createPublicKey } from 'node:crypto'
import type { Clock } from '#shared/lifecycle/clock.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { HostName } from '#shared/model/names.ts'
import { parseHostName } from '#shared/model/names.ts'
import type { RootName } from '#shared/model/trust.ts'
import { checkCsr, makeCsr } from '#shared/pki/csr.ts'
import { generateKey } from '#shared/pki/keys.ts'
import { rootName } from '#shared/pki/root-name.ts'
import { openRecord, readSigner, signRecord } from '#shared/pki/signed-record.ts'
import { x509 } from '#shared/pki/x509.ts'
import {
  actingKey,
  actingPrefix,
  intermediateKey,
  requestKey,
  requestsPrefix,
  rotationPrefix,
} from '#shared/store/keys.ts'
import type { KeyValue } from '#shared/store/key-value.ts'
import type { Authority } from './authority.ts'
import type { CaSlot } from './ca-state.ts'
import type { RefusedRecords } from './refused-records.ts'

/** What it leans on. */
export interface IntermediatesParts {
  readonly authority: Authority
  readonly store: KeyValue
  readonly clock: Clock
  readonly logger: Logger
  readonly refused: RefusedRecords
}

interface Asked {
  readonly root: RootName
  readonly key: KeyObject
  readonly request: string
}

/** See the header. */
export class Intermediates {
  readonly #parts: IntermediatesParts
  readonly #name: HostName
  #asked: Asked | null = null
  #acting = ''

  constructor(parts: IntermediatesParts, settings: { readonly controller: HostName }) {
    this.#parts = parts
    this.#name = settings.controller
  }

  /** Asks for a certificate under a root, and takes it once it is there; null until then. */
  async ask(root: X509Certificate): Promise<CaSlot | null> {
    const { store, clock, authority, logger } = this.#parts
    const name = rootName(root.raw)
    const key = requestKey(name, this.#name)
    const asked = this.#asked?.root === name ? this.#asked : await this.#prepare(name, key)
    this.#asked = asked
    const { entry: known } = await store.get(key)
    if (known?.value !== asked.request) {
      await store.put(key, asked.request)
      logger.info({ root: name }, 'an issuing certificate under the next root was asked for')
    }
    const { entry } = await store.get(intermediateKey(name, this.#name))
    if (entry === null) return null
    const { trustDomain } = authority
    const signer = readSigner(entry.value, { roots: [root], trustDomain, nowMs: clock.now() })
    // Of an earlier request of ours, or no answer at all.
    if (!signer.ok || !signer.value.publicKey.equals(createPublicKey(asked.key))) return null
    const certificate = new x509.X509Certificate(signer.value.raw)
    return {
      root: { certificate: new x509.X509Certificate(root.raw), key: null },
      issuing: { certificate, key: asked.key },
    }
  }

  /** Answers what the controllers named ask for under a root whose key is here. */
  async answer(root: RootName, controllers: ReadonlySet<string>): Promise<void> {
    const { store, clock, authority, logger, refused } = this.#parts
    const requests = requestsPrefix(root)
    for (const { key, value } of (await store.list(requests)).entries) {
      const name = parseHostName(key.slice(requests.length))
      if (!name.ok || name.value === this.#name || !controllers.has(name.value)) continue
      // Whoever signs as a controller could issue anything anyway: nobody gains by asking.
      const record = openRecord(value, key, authority.recordTrust(clock.now()))
      if (!record.ok) {
        refused.add('request', key, record, value)
        continue
      }
      const csr = checkCsr(Buffer.from(record.value.body, 'base64'))
      if (!csr.ok || csr.value.asymmetricKeyType !== 'ec') continue
      const at = intermediateKey(root, name.value)
      const { entry } = await store.get(at)
      if (entry !== null && isFor(entry.value, csr.value)) continue
      const certificate = await authority.certifyIntermediate(name.value, csr.value, root)
      if (certificate === null) return
      await store.put(at, certificate)
      const facts = { audit: 'controller-admitted', name: name.value, root }
      logger.warn(facts, 'another controller may issue certificates under the next root')
    }
  }

  /** Says which trust bundle this controller acts on. */
  async act(epoch: number): Promise<void> {
    const value = String(epoch)
    if (value === this.#acting) return
    await this.#parts.store.put(actingKey(this.#name), value)
    this.#acting = value
  }

  /** Which trust bundle each controller says it acts on. */
  async acting(): Promise<ReadonlyMap<string, number>> {
    const { entries } = await this.#parts.store.list(actingPrefix)
    return new Map(entries.map(({ key, value }) => [key.slice(actingPrefix.length), Number(value)]))
  }

  /** Forgets what a rotation that has ended has left in the store. */
  async clear(): Promise<void> {
    const { store } = this.#parts
    for (const { key } of (await store.list(rotationPrefix)).entries) {
      if (!key.startsWith(actingPrefix)) await store.delete(key)
    }
  }

  async #prepare(root: RootName, key: string): Promise<Asked> {
    const { authority } = this.#parts
    const own = await generateKey()
    const csr = await makeCsr(own, `${authority.trustDomain} issuing`)
    const request = signRecord(authority.signer, { key, epoch: 1, body: csr.toString('base64') })
    return { root, key: own, request }
  }
}

function isFor(pem: string, key: KeyObject): boolean {
  try {
    return new X509Certificate(pem).publicKey.equals(key)
  } catch {
    return false
  }
}
