/** Owns what a bench says: one row a comparison. */

/** A figure of ours beside a peer's, of one run. */
export interface Result {
  readonly name: string
  readonly metric: string
  readonly ours: number
  /** NaN where a goal is absolute. */
  readonly peer: number
  readonly peerName: string
  readonly ratio: number
  readonly goal: number | null
  readonly ok: boolean
  /** Whether the kernel led our callers into the mesh; absent where nobody called through it. */
  readonly capture?: boolean
}

/** A row for people. */
export function renderResult(result: Result): string {
  const { name, metric, ours, peer, peerName, ratio, goal, ok, capture } = result
  const figures = Number.isNaN(peer)
    ? ours.toFixed(1)
    : `${ours.toFixed(1)} against ${peer.toFixed(1)} of ${peerName}, ratio ${ratio.toFixed(2)}`
  const verdict = goal === null ? '' : ` (goal ${goal}: ${ok ? 'ok' : 'MISSED'})`
  const how = capture === false ? ', capture off' : ''
  return `${name}: ${metric}: ${figures}${how}${verdict}`
}
