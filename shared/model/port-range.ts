/** Owns the type of a range of ports. */

/** Ports, both ends included. */
export interface PortRange {
  readonly first: number
  readonly last: number
}
