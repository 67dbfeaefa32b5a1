/** Owns the seam between the admin surface and the agent: what it may ask. Types only. */

import type { CaptureExplanation } from '#shared/model/admin-capture.ts'
import type { AuthzAnswer } from '#shared/model/admin-policies.ts'
import type { GenerationReport } from '#shared/model/admin-workers.ts'
import type { AgentFacts } from '#shared/model/admin.ts'

/** The facts of a running agent, from memory but for those that say otherwise. */
export interface AdminSource {
  status(): AgentFacts['status']
  services(): AgentFacts['services']
  external(): AgentFacts['external']
  manifests(): AgentFacts['manifests']
  certificates(): AgentFacts['certificates']
  policies(): AgentFacts['policies']
  /** Read from the kernel. */
  machine(): AgentFacts['machine']
  /** Whether a call would be permitted, and why. */
  explain(query: URLSearchParams): AuthzAnswer
  /** Asks the workers what they carry; ends by itself. */
  generations(): Promise<readonly GenerationReport[]>
  /** What becomes of a connection of a local user. */
  explainCapture(query: URLSearchParams): Promise<CaptureExplanation>
}

/** The numbers of a running agent. */
export interface MetricsSource {
  /** Prometheus' text; may ask the workers, so it may take a while and must end by itself. */
  metricsText(): Promise<string>
  readiness(): { readonly ready: boolean; readonly waitsFor: string }
}
