/** Owns the seam by which the data path tells how something ended. Types only. */

import type { Outcome } from '#shared/model/outcome.ts'

/** Takes one outcome per request and connection, exactly once each. */
export interface OutcomeSink {
  record(outcome: Outcome): void
}
