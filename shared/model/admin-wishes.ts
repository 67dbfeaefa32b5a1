/** Owns what an agent is told to do on its admin socket. */

/** `POST /v1/health`: the result of a push check, brought to the agent. */
export interface HealthResult {
  readonly service: string
  /** Name of the check, where the service has several that wait for results. */
  readonly check?: string
  readonly outcome: 'pass' | 'warn' | 'fail'
  /** What was seen, for people. */
  readonly detail: string
}

/** `POST /v1/rotation`: takes a service of the agent's host, or the host, out of rotation or back. */
export interface RotationWish {
  /** Name of a service of this host, or of the host. */
  readonly target: string
  /** The host is meant, also where a service of it is called like it. */
  readonly kind?: 'host'
  readonly withdrawn: boolean
  /** For those who wonder later. Who puts back may give one: then it puts back what is out for that one. */
  readonly reason: string
}

/** `POST /v1/capture`: switches capture off on the agent's host, or on again. */
export interface CaptureWish {
  readonly wish: 'on' | 'off'
  readonly reason: string
  /** Who wishes it. */
  readonly by: string
}

/** `POST /v1/bypass`: takes one service out of capture for a time. */
export interface BypassWish {
  readonly service: string
  /** 0 ends it. */
  readonly forMs: number
  readonly reason: string
  readonly by: string
}
