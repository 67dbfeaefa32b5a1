/**
 * Owns which generation of workers captured connections are led to: the newest live one, port by port,
 * once all its workers act on the newest view. Pure.
 */

import type { WorkerPhase } from '#agent/workers/messages.ts'
import { callerPort, unknownCaller } from './caller-ports.ts'
import type { CaptureState } from './capture-state.ts'
import type { Plan } from './plan.ts'

/** A worker as interception sees it. */
export interface CapturingWorker {
  readonly generation: number
  /** Only to live ones captured connections are led. */
  readonly phase: WorkerPhase | null
  /** The view it acts on and the indexes of callers whose ports are open; null: it knows of none. */
  readonly capturing: { readonly sequence: number; readonly open: readonly number[] } | null
}

/** What the kernel is to do. */
export interface Lead {
  readonly kind: 'lead'
  readonly state: CaptureState
  /** Whose ports connections are led to; null: nobody takes any. */
  readonly generation: number | null
}

/** Settings of a lead. */
export interface LeadSettings {
  /** Where ports of captured callers begin. */
  readonly firstPort: number
  /** Of the newest view. */
  readonly sequence: number
}

/** Where a plan's connections go; `wait` where a worker has still to open its ports. */
export function leadTo(
  plan: Plan,
  workers: readonly CapturingWorker[],
  { firstPort, sequence }: LeadSettings,
): Lead | { readonly kind: 'wait' } {
  const able = workers.filter(({ capturing, phase }) => capturing !== null && phase === 'live')
  if (able.length === 0) return { kind: 'lead', state: lifted(plan, firstPort), generation: null }
  const newest = Math.max(...able.map(({ generation }) => generation))
  const group = able.filter(({ generation }) => generation === newest)
  if (group.some(({ capturing }) => capturing?.sequence !== sequence)) return { kind: 'wait' }
  const isOpen = (index: number): boolean =>
    group.every(({ capturing }) => capturing?.open.includes(index) === true)
  if (!isOpen(unknownCaller)) return { kind: 'wait' }
  const port = (index: number): number => callerPort(firstPort, newest, index)
  const state = {
    ...plan.state,
    unknownPort: port(unknownCaller),
    callers: plan.callers
      .filter(({ index }) => isOpen(index))
      .flatMap(({ who, index }) => (who === null ? [] : [{ ...who, port: port(index) }])),
  }
  return { kind: 'lead', state, generation: newest }
}

/** Nobody takes connections: what is denied without the mesh stays led to where nobody answers. */
function lifted({ state }: Plan, firstPort: number): CaptureState {
  const destinations = state.destinations.filter(({ denied }) => denied)
  return {
    ...state,
    destinations,
    unknownPort: destinations.length === 0 ? null : firstPort,
    callers: [],
  }
}
