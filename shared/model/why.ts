/**
 * Owns the question why a call does or does not work, and its answer: one path walked step by step.
 * Plain data between agent and `meshctl`.
 */

import type { CheckReport } from './admin.ts'

/** `POST /v1/why`. */
export interface WhyQuestion {
  /** `orders` or `orders.mesh`, or one of its ports: `admin.orders`. */
  readonly service: string
  /** A service of the agent's host; absent: the host itself. */
  readonly caller?: string
  /** A request to send for real; absent: connections are tried, no request is sent. */
  readonly request?: { readonly method: string; readonly path: string }
}

/** One step of the walk. */
export type WhyStep = CheckReport

/** What the walk found. */
export interface WhyAnswer {
  /** As in `orders` or `admin.orders`. */
  readonly service: string
  /** The identity the path was walked with; empty where there is none. */
  readonly caller: string
  /** `partly`: some instances can be called, others cannot. */
  readonly verdict: 'works' | 'partly' | 'broken'
  /** In the order of the path; the first that failed is the culprit. */
  readonly steps: readonly WhyStep[]
}
