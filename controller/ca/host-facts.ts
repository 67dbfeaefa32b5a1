/**
 * Owns what the store tells of hosts and the trust they act on: who has joined, who is there, what
 * each reports. It remembers how long each has not used a root, by comparing what they report.
 */

import type { Clock } from '#shared/lifecycle/clock.ts'
import type { HostRecord } from '#shared/model/records.ts'
import type { RootName, TrustReport } from '#shared/model/trust.ts'
import { decodeTrustReport } from '#shared/schema/trust.ts'
import { parseTrustReportKey, presencePrefix, trustReportsPrefix } from '#shared/store/keys.ts'
import type { KeyValue } from '#shared/store/key-value.ts'
import type { HostLedger } from './host-ledger.ts'
import type { HostFacts } from './rotation.ts'

/** One host as the store shows it. */
export interface KnownHost {
  readonly record: HostRecord
  readonly live: boolean
  /** Null where it has not said anything. */
  readonly report: TrustReport | null
}

interface Seen {
  readonly handshakes: number
  /** Monotonic milliseconds. */
  readonly sinceMs: number
}

/** Reads every host there is. Throws what the store throws. */
export async function readHosts(
  store: KeyValue,
  hosts: Pick<HostLedger, 'readAll'>,
): Promise<readonly KnownHost[]> {
  const [records, presences, reports] = await Promise.all([
    hosts.readAll(),
    store.list(presencePrefix),
    store.list(trustReportsPrefix),
  ])
  const live = new Set(presences.entries.map(({ key }) => key.slice(presencePrefix.length)))
  const said = new Map<string, TrustReport>()
  for (const { key, value } of reports.entries) {
    const report = decodeTrustReport(value)
    // A report that names another host than its key speaks for nobody.
    if (report.ok && report.value.host === parseTrustReportKey(key)) {
      said.set(report.value.host, report.value)
    }
  }
  return records.map((record) => {
    const { host } = record
    return { record, live: live.has(host), report: said.get(host) ?? null }
  })
}

/** Follows how long each host has not used a root that is to go. */
export class RootUse {
  readonly #clock: Pick<Clock, 'elapsed'>
  #root: RootName | null = null
  #seen: ReadonlyMap<string, Seen> = new Map()

  constructor(parts: { readonly clock: Pick<Clock, 'elapsed'> }) {
    this.#clock = parts.clock
  }

  /** The facts of each host about `leaving`; null where no root is to go. */
  follow(hosts: readonly KnownHost[], leaving: RootName | null): readonly HostFacts[] {
    if (leaving !== this.#root) this.#seen = new Map()
    this.#root = leaving
    const now = this.#clock.elapsed()
    const seen = new Map<string, Seen>()
    const facts = hosts.map(({ record: { host }, live, report }): HostFacts => {
      const handshakes = leaving === null ? 0 : (report?.handshakes[leaving] ?? 0)
      const before = this.#seen.get(host)
      const sinceMs = before?.handshakes === handshakes ? before.sinceMs : now
      if (report !== null) seen.set(host, { handshakes, sinceMs })
      return {
        host,
        live,
        bundleEpoch: report?.epochs.bundle ?? 0,
        heldUnderLeaving: leaving === null ? 0 : (report?.held[leaving] ?? 0),
        quietMs: report === null ? 0 : now - sinceMs,
        problem: report?.problem ?? '',
      }
    })
    this.#seen = seen
    return facts
  }
}
