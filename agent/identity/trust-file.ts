/**
 * Owns the file of what this host trusts, `<state>/identity/trust.json`: the root it enrolled under
 * and the newest records of controllers. Written whole or not at all. A damaged one is as good as
 * none, and told.
 */

import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { writeFileAtomic } from '#shared/lifecycle/atomic-file.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { TrustDomain } from '#shared/model/names.ts'
import { parseTrustDomain } from '#shared/model/names.ts'
import { splitRecord } from '#shared/pki/signed-record.ts'
import { splitPem } from '#shared/pki/trust.ts'

/** What the file holds. */
export interface KeptTrust {
  readonly trustDomain: TrustDomain
  /** What the enrolment said to trust, PEM. */
  readonly anchorPem: string
  /** The newest records as they stood in the store; null before the first. */
  readonly bundle: string | null
  readonly bans: string | null
  readonly policies: string | null
}

const format = 1

/** See the header. */
export class TrustFile {
  readonly #logger: Logger
  readonly #directory: string

  constructor(parts: { readonly logger: Logger }, settings: { readonly stateDirectory: string }) {
    this.#logger = parts.logger
    this.#directory = join(settings.stateDirectory, 'identity')
  }

  /** Where it stands. */
  get path(): string {
    return join(this.#directory, 'trust.json')
  }

  /** Null where there is none, or none that can be used. */
  async load(): Promise<KeptTrust | null> {
    const text = await readFile(this.path, 'utf8').catch(() => null)
    if (text === null) return null
    const kept = read(text)
    if (kept === null) {
      this.#logger.error({ path: this.path }, 'the file of what this host trusts is damaged')
    }
    return kept
  }

  /** Throws what the file system throws. */
  async save(kept: KeptTrust): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 })
    await writeFileAtomic(this.path, `${JSON.stringify({ format, ...kept })}\n`)
  }
}

function read(text: string): KeptTrust | null {
  let raw: Readonly<Record<string, unknown>>
  try {
    raw = (JSON.parse(text) ?? {}) as Readonly<Record<string, unknown>>
  } catch {
    return null
  }
  const { anchorPem, bundle, bans, policies = null } = raw
  const trustDomain = parseTrustDomain(String(raw['trustDomain']))
  if (raw['format'] !== format || !trustDomain.ok) return null
  if (typeof anchorPem !== 'string' || !splitPem(anchorPem).ok) return null
  if (!isRecord(bundle) || !isRecord(bans) || !isRecord(policies)) return null
  return { trustDomain: trustDomain.value, anchorPem, bundle, bans, policies }
}

function isRecord(value: unknown): value is string | null {
  return value === null || (typeof value === 'string' && splitRecord(value).ok)
}
