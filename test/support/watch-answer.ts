/** Owns answers of a Watch stream as a played server gives them. */

import type { WatchResponse } from '#shared/store/wire.ts'

/** An answer that says nothing but what is given. */
export function watchAnswer(fields: Partial<WatchResponse>): WatchResponse {
  return {
    header: { cluster_id: '1', member_id: '1', revision: '1', raft_term: '1' },
    watch_id: '0',
    created: false,
    canceled: false,
    compact_revision: '0',
    cancel_reason: '',
    fragment: false,
    events: [],
    ...fields,
  }
}
