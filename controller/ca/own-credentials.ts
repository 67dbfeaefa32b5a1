/**
 * Owns what the controller holds for itself: its server certificate, the operator's credential file
 * and the CA's issuing certificate, each renewed at half its life. Failures are tried again with
 * backoff; what is held serves until its end.
 */

import { createPublicKey } from 'node:crypto'
import { join } from 'node:path'
import { writeFileAtomic } from '#shared/lifecycle/atomic-file.ts'
import { Backoff } from '#shared/lifecycle/backoff.ts'
import type { Clock, Random, Timer } from '#shared/lifecycle/clock.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { HostName } from '#shared/model/names.ts'
import { renewAfterMs } from '#shared/pki/half-life.ts'
import { generateKey, keyToPem } from '#shared/pki/keys.ts'
import type { ServerCredential } from '#shared/rpc/mtls-server.ts'
import type { OperatorFile } from '#shared/rpc/operator-file.ts'
import type { Authority } from './authority.ts'
import { unwritable } from './state-faults.ts'

/** What it leans on. */
export interface OwnCredentialsParts {
  readonly authority: Authority
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  /** Told the server certificate, at first and whenever it was renewed. */
  readonly onServerCredential: (credential: ServerCredential) => void
}

/** Its settings. */
export interface OwnCredentialsSettings {
  readonly name: HostName
  readonly stateDirectory: string
  /** @default 30 days */
  readonly operatorTtlMs?: number
}

/** The first operator, who holds the file on the controller's own host. */
const operator = 'admin' as HostName
/** The longest a timer may be set: half a day. */
const longestWaitMs = 43_200_000

/** See the header. */
export class OwnCredentials {
  readonly #parts: OwnCredentialsParts
  readonly #settings: OwnCredentialsSettings
  readonly #backoff: Backoff
  #timer: Timer | null = null
  #stopped = false
  #running: Promise<void> = Promise.resolve()
  /** When each is due, milliseconds since the epoch. */
  #due = { server: 0, operator: 0 }
  #serverEndsMs = 0
  /** Where operators reach the controller; null until its port is known. */
  #address: string | null = null

  constructor(parts: OwnCredentialsParts, settings: OwnCredentialsSettings) {
    this.#parts = parts
    this.#settings = settings
    this.#backoff = new Backoff(parts, { firstMs: 500, lastMs: 150_000 })
  }

  /** Issues the first server certificate and begins renewing. Throws what the CA throws. */
  async start(): Promise<void> {
    await this.#renewServer()
    this.#schedule()
  }

  /** Writes the operator's file, once the address is known. Throws MeshError `state-unwritable`. */
  async writeOperatorFile(address: string): Promise<void> {
    this.#address = address
    await this.#renewOperator(address)
  }

  /** The CA has taken a step: everything is made anew at once. Throws what the CA throws. */
  async renew(): Promise<void> {
    this.#due = { server: 0, operator: 0 }
    this.#timer?.stop()
    await this.#running
    this.#running = this.#round()
    await this.#running
  }

  /** When the server certificate ends, milliseconds since the epoch. */
  get serverEndsMs(): number {
    return this.#serverEndsMs
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#timer?.stop()
    await this.#running
  }

  #schedule(): void {
    if (this.#stopped) return
    const now = this.#parts.clock.now()
    const { server, operator } = this.#due
    const next = this.#address === null ? server : Math.min(server, operator)
    this.#wait(Math.min(longestWaitMs, Math.max(0, next - now)))
  }

  #wait(ms: number): void {
    this.#timer = this.#parts.clock.after(ms, () => {
      this.#running = this.#round()
    })
  }

  async #round(): Promise<void> {
    try {
      await this.#parts.authority.refreshIssuing()
      const now = this.#parts.clock.now()
      if (this.#due.server <= now) await this.#renewServer()
      if (this.#address !== null && this.#due.operator <= now) {
        await this.#renewOperator(this.#address)
      }
      this.#backoff.reset()
      this.#schedule()
    } catch (error) {
      this.#parts.logger.error({ err: error }, 'a certificate of the controller was not renewed')
      if (!this.#stopped) this.#wait(this.#backoff.nextMs())
    }
  }

  async #renewServer(): Promise<void> {
    const { authority, clock, logger } = this.#parts
    const key = await generateKey()
    const issued = await authority.issueController(this.#settings.name, createPublicKey(key))
    this.#parts.onServerCredential({
      // The root goes along so that a host that enrols can pin it.
      chainPem: issued.chainPem + authority.anchorPem,
      keyPem: keyToPem(key),
      bundlePem: authority.bundlePem,
    })
    this.#serverEndsMs = issued.notAfterMs
    this.#due.server = clock.now() + this.#renewAfter(issued.notAfterMs)
    logger.info({ id: issued.spiffeId, serial: issued.serial }, 'server certificate issued')
  }

  async #renewOperator(address: string): Promise<void> {
    const { authority, clock, logger } = this.#parts
    const ttlMs = this.#settings.operatorTtlMs ?? 30 * 86_400_000
    const key = await generateKey()
    const issued = await authority.issueOperator(operator, createPublicKey(key), ttlMs)
    const file: OperatorFile = {
      id: issued.spiffeId,
      controller: address,
      chainPem: issued.chainPem,
      keyPem: keyToPem(key),
      bundlePem: authority.bundlePem,
    }
    const path = join(this.#settings.stateDirectory, 'operator.json')
    try {
      await writeFileAtomic(path, `${JSON.stringify(file, null, 2)}\n`)
    } catch (error) {
      throw unwritable(path, error)
    }
    this.#due.operator = clock.now() + this.#renewAfter(issued.notAfterMs)
    logger.info({ id: issued.spiffeId, serial: issued.serial, path }, 'operator credential written')
  }

  #renewAfter(notAfterMs: number): number {
    const { clock, random } = this.#parts
    return renewAfterMs(notAfterMs - clock.now(), random.fraction())
  }
}
