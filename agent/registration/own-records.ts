/**
 * Owns everything this host wants in the store: what it registers, its farewells and its report of
 * trust. It is kept until there is a link, and handed over whole at each change.
 */

import type { HostName } from '#shared/model/names.ts'
import { trustReportKey } from '#shared/store/keys.ts'

/** Takes the records; `StoreLink` fits. */
export interface RecordsSink {
  publish(desired: ReadonlyMap<string, string>, farewells: ReadonlyMap<string, string>): void
}

/** See the header. */
export class OwnRecords {
  readonly #host: HostName
  #desired: ReadonlyMap<string, string> = new Map()
  #farewells: ReadonlyMap<string, string> = new Map()
  #trustReport = ''
  #sink: RecordsSink | null = null

  constructor(settings: { readonly host: HostName }) {
    this.#host = settings.host
  }

  /** From now on records go there. */
  attach(sink: RecordsSink): void {
    this.#sink = sink
    this.#publish()
  }

  /** What the registrar wants there. */
  setRegistration(
    desired: ReadonlyMap<string, string>,
    farewells: ReadonlyMap<string, string>,
  ): void {
    this.#desired = desired
    this.#farewells = farewells
    this.#publish()
  }

  /** What this host reports about its trust. */
  setTrustReport(text: string): void {
    this.#trustReport = text
    this.#publish()
  }

  #publish(): void {
    const all = new Map(this.#desired)
    if (this.#trustReport !== '') all.set(trustReportKey(this.#host), this.#trustReport)
    this.#sink?.publish(all, this.#farewells)
  }
}
