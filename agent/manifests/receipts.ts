/** Owns the receipts on the disk: one for each manifest, gone when the manifest is. */

import { DirectoryMirror, type DirectoryMirrorParts } from './directory-mirror.ts'
import { standsAt } from './manifest-file.ts'
import { renderReceipt, type ReceiptFacts, type Verdict } from './receipt.ts'

/** Settings of the receipts. */
export interface ReceiptsSettings {
  /** The agent's run directory; receipts stand in `status/` below it, as their manifests do in theirs. */
  readonly runDirectory: string
}

/** See the header. */
export class Receipts {
  readonly #mirror: DirectoryMirror

  constructor(parts: DirectoryMirrorParts, settings: ReceiptsSettings) {
    const directory = `${settings.runDirectory}/status`
    this.#mirror = new DirectoryMirror(parts, { directory, mode: 0o644, durable: false })
  }

  /** Shows these verdicts from now on, each with what else is known of its instance. */
  show(verdicts: readonly Verdict[], factsOf: (verdict: Verdict) => ReceiptFacts): void {
    this.#mirror.show(
      new Map(
        verdicts.map((verdict) => [
          standsAt(verdict.path, verdict.user),
          renderReceipt(verdict, factsOf(verdict)),
        ]),
      ),
    )
  }

  /** Resolves when what was shown is on the disk, or could not be written. */
  settled(): Promise<void> {
    return this.#mirror.settled()
  }

  /** Stops writing, after what was shown last. The receipts stay: whoever leaves shows none before. */
  stop(): Promise<void> {
    return this.#mirror.stop()
  }
}
