/** Owns what an agent tells on its admin socket of capture: whose connections, what was taken out, and by whom. */

/** Whether the kernel leads connections of local programs into the mesh, and whose. */
export interface CaptureReport {
  /** `lifted` by an operator; `off` by config or for want of a right. */
  readonly kind: 'on' | 'off' | 'waiting' | 'failed' | 'lifted'
  /** Why it is not on; empty while it is. */
  readonly reason: string
  /** What to do about it; may be empty. */
  readonly hint: string
  readonly callers: readonly CallerReport[]
  /** How many addresses and ports are captured. */
  readonly destinations: number
  /** What services here may reach outside the mesh. */
  readonly egress: 'allow-any' | 'registry-only'
  /** What was asked for and is not captured, and why. */
  readonly problems: readonly string[]
  /** What this kernel keeps from being done; empty where that is nothing. */
  readonly limit: string
  /** Who has switched it off; null while nobody has. */
  readonly lifted: LiftReport | null
  /** Services that bypass the mesh. */
  readonly bypasses: readonly BypassReport[]
}

/** Who took something out of capture, when, and why. */
export interface LiftReport {
  readonly sinceMs: number
  readonly reason: string
  readonly by: string
}

/** A service that bypasses the mesh for a time. */
export interface BypassReport extends LiftReport {
  readonly service: string
  readonly untilMs: number
}

/** `GET /v1/capture/explain?to=…&user=…`: what becomes of a connection of a local user. */
export type CaptureExplanation =
  | {
      readonly kind: 'captured'
      readonly service: string
      /** The service the user is known as; null: it has the host's identity. */
      readonly caller: string | null
      /** Where the kernel leads it, for those who look there. */
      readonly port: number
    }
  /** Goes where it is going, without the mesh. */
  | { readonly kind: 'direct'; readonly why: string }
  | { readonly kind: 'refused'; readonly why: string }
  | { readonly kind: 'bad-question'; readonly problem: string }

/** A local service as a caller. */
export interface CallerReport {
  readonly service: string
  /** The number of the user it is known by, or of whom its unit runs as; null where there is none. */
  readonly user: number | null
  /** The unit it is known by; null where it is known by its user. */
  readonly unit: string | null
  /** Why it is known by none, or that its port is in wrong hands; empty otherwise. */
  readonly problem: string
  /** `none`: it has no port here. */
  readonly inbound: 'off' | 'permissive' | 'strict' | 'none'
}
