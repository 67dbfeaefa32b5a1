/** Owns what the controller's metrics tell of its certificates, and of trust in force. Pure. */

import { controllerMetrics } from '#shared/metrics/names.ts'
import type { MetricSeries } from '#shared/metrics/registry.ts'
import type { Authority } from './ca/authority.ts'
import type { OwnCredentials } from './ca/own-credentials.ts'
import type { TrustLedger } from './ca/trust-ledger.ts'

/** The series; all are of this moment. */
export function credentialSeries(rooms: {
  readonly authority: Authority
  readonly own: OwnCredentials
  readonly ledger: TrustLedger
}): readonly MetricSeries[] {
  return [...endSeries(rooms.authority, rooms.own), ...trustSeries(rooms.ledger)]
}

/** When what this controller signs and serves with ends. */
function endSeries(authority: Authority, own: OwnCredentials): readonly MetricSeries[] {
  const { root, issuing, nextRoot = 0, nextIssuing = 0 } = authority.ends
  const ends = {
    root,
    issuing,
    'next-root': nextRoot,
    'next-issuing': nextIssuing,
    server: own.serverEndsMs,
  }
  const known = Object.entries(ends).filter(([, ms]) => ms > 0)
  return known.map(([certificate, ms]) => ({
    metric: controllerMetrics.certificateExpiry.name,
    labels: { certificate },
    value: ms / 1000,
  }))
}

/** The epochs in force, and how many are banned. */
function trustSeries({ epochs, bans }: TrustLedger): readonly MetricSeries[] {
  const one = (metric: string, labels: MetricSeries['labels'], value: number): MetricSeries => {
    return { metric, labels, value }
  }
  const { trustEpoch, banned } = controllerMetrics
  return [
    one(trustEpoch.name, { record: 'bundle' }, epochs.bundle),
    one(trustEpoch.name, { record: 'bans' }, epochs.bans),
    one(trustEpoch.name, { record: 'policies' }, epochs.policies),
    one(banned.name, { kind: 'host' }, Object.keys(bans.hosts).length),
    one(banned.name, { kind: 'serial' }, Object.keys(bans.serials).length),
  ]
}
