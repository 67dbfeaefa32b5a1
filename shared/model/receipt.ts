/**
 * Owns the receipt: what a user finds in the run directory about the manifest they dropped, as it
 * stands there in JSON. `docs/manifest.md` describes it.
 */

/** One thing wrong with one place of a file. */
export interface ReceiptProblem {
  readonly file: string
  /** From 1; 0 where the whole file is meant. */
  readonly line: number
  readonly column: number
  /** Stable name of the rule that was broken. */
  readonly rule: string
  readonly message: string
  /** What to do about it; may be empty. */
  readonly hint: string
}

/** See the header. */
export interface Receipt {
  readonly file: string
  /** SHA-256 of the judged content, hexadecimal. */
  readonly contentHash: string
  readonly verdict: 'accepted' | 'rejected'
  /**
   * When this run of the agent's control process reached the verdict, RFC 3339 in UTC; the same for as long as
   * nothing of it changes.
   */
  readonly judgedAt: string
  /** Null where no version was ever good. */
  readonly service: string | null
  readonly inForce: 'this version' | 'last good version' | 'nothing'
  readonly problems: readonly ReceiptProblem[]
  /** What is accepted, but should be known. */
  readonly warnings?: readonly string[]
  readonly health?: ReceiptHealth
  readonly found?: ReceiptFinding
  readonly published?: ReceiptPublication
  readonly certificate?: {
    readonly spiffeId: string
    readonly serial: string
    /** RFC 3339. */
    readonly notAfter: string
  }
}

/** What the health checks say. */
export interface ReceiptHealth {
  readonly state: string
  readonly detail: string
  /** Each check by itself. */
  readonly checks: readonly {
    readonly name: string
    readonly state: string
    readonly detail: string
  }[]
}

/** How the service was found to speak. */
export interface ReceiptFinding {
  readonly speech: string
  /** How long it keeps an idle connection, as far as it says so. */
  readonly keepAliveMs?: number
  /** Why the declared protocol cannot be that; empty otherwise. */
  readonly mismatch: string
}

/** Whether other hosts are told of the instance, or why not. */
export interface ReceiptPublication {
  readonly ok: boolean
  readonly detail: string
  /** The store's revision with which they were told; 0 while they are not. */
  readonly revision: number
  readonly instances: readonly PublishedInstance[]
}

/** An instance as other hosts are told of it. */
export interface PublishedInstance {
  readonly host: string
  readonly id: string
  readonly port: number
  /** Ports by name; `down` is not called now. */
  readonly ports?: readonly {
    readonly name: string
    readonly port: number
    readonly protocol: string
    readonly down?: true
  }[]
  readonly weight: number
}
