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
  /** Texts as they were shown last, for what has not changed since. */
  readonly #texts = new WeakMap<Verdict, { readonly facts: ReceiptFacts; readonly text: string }>()

  constructor(parts: DirectoryMirrorParts, settings: ReceiptsSettings) {
    const directory = `${settings.runDirectory}/status`
    this.#mirror = new DirectoryMirror(parts, { directory, mode: 0o644, durable: false })
  }

  /**
   * Shows these verdicts from now on, each with what else is known of its instance: of the same verdict
   * with the same object of facts the same is shown.
   */
  show(verdicts: readonly Verdict[], factsOf: (verdict: Verdict) => ReceiptFacts): void {
    this.#mirror.show(
      new Map(
        verdicts.map((verdict) => [
          standsAt(verdict.path, verdict.user),
          this.#textOf(verdict, factsOf(verdict)),
        ]),
      ),
    )
  }

  #textOf(verdict: Verdict, facts: ReceiptFacts): string {
    const known = this.#texts.get(verdict)
    if (known?.facts === facts) return known.text
    const text = renderReceipt(verdict, facts)
    this.#texts.set(verdict, { facts, text })
    return text
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
