/**
 * Owns what this side knows of one instance's load and luck, and the rules of passive ejection
 * (outlier detection by consecutive failures). Pure: the time is an argument.
 */

/** Settings of passive ejection. */
export interface EjectionSettings {
  /** Connect failures in a row that eject. @default 2 */
  readonly connectFailures: number
  /** Resets and 5xx answers in a row that eject. @default 5 */
  readonly errors: number
  /** First ejection; doubles with each further one. @default 1000 */
  readonly firstMs: number
  /** Longest ejection. @default 30000 */
  readonly lastMs: number
}

/** The defaults of {@link EjectionSettings}. */
export const ejectionDefaults: EjectionSettings = {
  connectFailures: 2,
  errors: 5,
  firstMs: 1000,
  lastMs: 30_000,
}

/** What is known of the host an instance is on; shared by all its instances. */
export interface HostLife {
  /** It does not answer: nothing is sent there while there is another way. */
  readonly isLost: boolean
}

/** How long a new instance is spared: it warms up, and is not given all of its share at once. */
export const slowStartMs = 10_000
/** Share it begins with. */
const coldest = 0.1

/** One instance as a balancer sees it. Mutable and long-lived: it survives snapshots. */
export class Endpoint {
  weight: number
  /** Requests and connections under way. */
  active = 0
  /** Milliseconds (monotonic) until which it is out of rotation. */
  ejectedUntil = 0
  /** Milliseconds (monotonic) until which it is given less than its share. */
  warmUntil = 0
  /** Null for an instance of this host. */
  host: HostLife | null = null
  #connectFailures = 0
  #errors = 0
  #ejections = 0

  constructor(weight: number) {
    this.weight = weight
  }

  /** Whether it is in rotation. */
  isUsable(now: number): boolean {
    return this.ejectedUntil <= now && this.host?.isLost !== true
  }

  /** The part of its share that it is given, from a tenth to 1 as it warms up. */
  warmth(now: number): number {
    return Math.max(coldest, 1 - (this.warmUntil - now) / slowStartMs)
  }

  /** A success ends every count. */
  succeeded(): void {
    this.#connectFailures = 0
    this.#errors = 0
    this.#ejections = 0
  }

  /** Counts a failure; true when the endpoint has now earned an ejection. */
  failed(kind: 'connect' | 'error', settings: EjectionSettings): boolean {
    if (kind === 'connect') return ++this.#connectFailures >= settings.connectFailures
    return ++this.#errors >= settings.errors
  }

  /** Takes it out of rotation; the caller has made sure that enough others remain. */
  eject(now: number, settings: EjectionSettings): void {
    this.ejectedUntil = now + Math.min(settings.lastMs, settings.firstMs * 2 ** this.#ejections)
    this.#ejections = Math.min(this.#ejections + 1, 20)
    this.#connectFailures = 0
    this.#errors = 0
  }
}

/**
 * Whether one more of `endpoints` may be ejected: at most half of them at a time, so that the last
 * instances are never given up on suspicion (the panic threshold).
 */
export function mayEject(endpoints: readonly Endpoint[], now: number): boolean {
  let out = 1
  for (const endpoint of endpoints) if (!endpoint.isUsable(now)) out++
  return out * 2 <= endpoints.length
}
