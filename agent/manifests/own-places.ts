/**
 * Owns which ports of this host are the agent's own, so that no manifest makes a service of them: its
 * callers would be led in a circle, and would speak there as the agent itself. Pure.
 */

/** Ports on which the agent listens. */
export interface OwnPlace {
  /** In words, as in "the forward proxy". */
  readonly what: string
  /** An IP address, or all of them. */
  readonly address: string
  readonly first: number
  /** @default first */
  readonly last?: number
}

const everywhere = ['', '0.0.0.0', '::']

/** What of the agent's listens at an address and port; '' where nothing does. */
export function ownPlaceAt(own: readonly OwnPlace[], address: string, port: number): string {
  const found = own.find(
    ({ address: at, first, last = first }) =>
      port >= first && port <= last && (at === address || everywhere.includes(at)),
  )
  return found?.what ?? ''
}
