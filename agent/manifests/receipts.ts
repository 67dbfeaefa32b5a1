/** Owns the receipts on the disk: one for each manifest, gone when the manifest is. */

import { DirectoryMirror, type DirectoryMirrorParts } from './directory-mirror.ts'
import { standsAt } from './manifest-file.ts'
import { renderReceipt, type ReceiptFacts, type Verdict } from './receipt.ts'

/** Settings of the receipts. */
export interface ReceiptsSettings {
  /** The agent's run directory; receipts stand in `status/` below it, as their manifests do in theirs. */
  readonly runDirectory: string
}

/** A receipt as it was shown, under which name, with which facts. */
interface Shown {
  readonly facts: ReceiptFacts
  readonly name: string
  readonly text: string
}

/** See the header. */
export class Receipts {
  readonly #mirror: DirectoryMirror
  /** Receipts as they were shown last, for what has not changed since. */
  readonly #shown = new WeakMap<Verdict, Shown>()

  constructor(parts: DirectoryMirrorParts, settings: ReceiptsSettings) {
    const directory = `${settings.runDirectory}/status`
    this.#mirror = new DirectoryMirror(parts, { directory, mode: 0o644, durable: false })
  }

  /**
   * Shows these verdicts from now on, each with what else is known of its instance: of the same verdict
   * with the same object of facts the same is shown. Where `isMeant` says so, a verdict that was shown
   * before is not asked about again, unless its instance was on its way into the mesh.
   */
  show(
    verdicts: readonly Verdict[],
    factsOf: (verdict: Verdict) => ReceiptFacts,
    isMeant: (verdict: Verdict) => boolean = () => true,
  ): void {
    const texts = new Map<string, string>()
    for (const verdict of verdicts) {
      const known = this.#shown.get(verdict)
      const isAsked = known === undefined || known.facts.published?.ok === false || isMeant(verdict)
      const { name, text } = isAsked ? this.#shownWith(verdict, factsOf(verdict)) : known
      texts.set(name, text)
    }
    this.#mirror.show(texts)
  }

  #shownWith(verdict: Verdict, facts: ReceiptFacts): Shown {
    const known = this.#shown.get(verdict)
    if (known?.facts === facts) return known
    const name = known?.name ?? standsAt(verdict.path, verdict.user)
    const shown = { facts, name, text: renderReceipt(verdict, facts) }
    this.#shown.set(verdict, shown)
    return shown
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
