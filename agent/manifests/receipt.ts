/**
 * Owns the receipt: what a user finds in the run directory about the manifest they dropped. It is
 * rendered here and nowhere else; `docs/manifest.md` describes it.
 */

import type { Judgement } from './judge.ts'

/** What the rest of the agent knows of a manifest's instance. */
export interface ReceiptFacts {
  /** What the health check says. */
  readonly health?: { readonly state: 'starting' | 'passing' | 'failing'; readonly detail: string }
  /** Whether other hosts are told of the instance, or why not. */
  readonly published?: { readonly ok: boolean; readonly detail: string }
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
}

/** Renders the receipt of one file. */
export function renderReceipt(verdict: Verdict, facts: ReceiptFacts): string {
  const { path, hash, problems, manifest } = verdict
  const { health, published, certificate, warnings } = facts
  const receipt = {
    file: path,
    contentHash: hash,
    verdict: verdict.verdict,
    service: manifest?.service ?? null,
    inForce: inForce(verdict),
    problems,
    ...(warnings === undefined ? {} : { warnings }),
    ...(health === undefined ? {} : { health }),
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

function inForce({ verdict, manifest }: Verdict): 'this version' | 'last good version' | 'nothing' {
  if (manifest === null) return 'nothing'
  return verdict === 'accepted' ? 'this version' : 'last good version'
}
