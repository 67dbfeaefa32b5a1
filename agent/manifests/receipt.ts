/**
 * Owns the rendering of receipts: what a user finds in the run directory about the manifest they
 * dropped. It knows nothing of files.
 */

import type {
  Receipt,
  ReceiptFinding,
  ReceiptHealth,
  ReceiptPublication,
} from '#shared/model/receipt.ts'
import type { Judgement } from './judge.ts'

/** What the rest of the agent knows of a manifest's instance. */
export interface ReceiptFacts {
  readonly health?: ReceiptHealth
  readonly found?: ReceiptFinding
  readonly published?: ReceiptPublication
  /** What is accepted, but should be known. */
  readonly warnings?: readonly string[]
  readonly certificate?: {
    readonly spiffeId: string
    readonly serial: string
    /** Milliseconds since the epoch. */
    readonly notAfterMs: number
  }
}

/** A judgement and the content it was passed on. */
export interface Verdict extends Judgement {
  /** SHA-256 of the judged content, hexadecimal. */
  readonly hash: string
  /** When it was reached, milliseconds since the epoch. */
  readonly judgedAtMs: number
}

/** Renders the receipt of one file. */
export function renderReceipt(verdict: Verdict, facts: ReceiptFacts): string {
  const { path, hash, problems, manifest } = verdict
  const { health, found, published, certificate, warnings } = facts
  const receipt: Receipt = {
    file: path,
    contentHash: hash,
    verdict: verdict.verdict,
    judgedAt: new Date(verdict.judgedAtMs).toISOString(),
    service: manifest?.service ?? null,
    inForce: inForce(verdict),
    problems,
    ...(warnings === undefined ? {} : { warnings }),
    ...(health === undefined ? {} : { health }),
    ...(found === undefined ? {} : { found }),
    ...(published === undefined ? {} : { published }),
    ...(certificate === undefined
      ? {}
      : {
          certificate: {
            spiffeId: certificate.spiffeId,
            serial: certificate.serial,
            notAfter: new Date(certificate.notAfterMs).toISOString(),
          },
        }),
  }
  return `${JSON.stringify(receipt, null, 2)}\n`
}

function inForce({ verdict, manifest }: Verdict): Receipt['inForce'] {
  if (manifest === null) return 'nothing'
  return verdict === 'accepted' ? 'this version' : 'last good version'
}
