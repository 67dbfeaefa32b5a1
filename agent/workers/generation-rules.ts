/**
 * The rules by which generations of workers follow each other. Pure: from what is known of all
 * workers to what each of them is to do. A newer generation stands by until every worker of it is
 * ready, then goes live; an older one retires once everything leads to the newer one.
 */

import { mostGenerations } from '#shared/model/generations.ts'
import type { ListenerState, WorkerPhase } from './messages.ts'

/** A worker as the rules see it. */
export interface SteeredWorker {
  readonly generation: number
  readonly index: number
  /** What it was last told, by an earlier control process perhaps; null: nothing yet. */
  readonly phase: WorkerPhase | null
  /** Whether it acts on the newest view of everything, so that it could serve at once. */
  readonly isReady: boolean
  readonly listening: {
    readonly tunnelPort: number
    readonly listeners: readonly ListenerState[]
  }
}

/** What else the rules need to know. */
export interface GenerationFacts {
  /** Workers a generation has. */
  readonly wanted: number
  /** Whether the kernel's rules lead captured connections to a generation, if they lead anywhere. */
  readonly leadsTo: (generation: number) => boolean
  /** Whether every worker that was there before this control process has had time to come back. */
  readonly allAreBack: boolean
}

/** What each worker is to do now. */
export function phasesOf<Worker extends SteeredWorker>(
  workers: readonly Worker[],
  facts: GenerationFacts,
): ReadonlyMap<Worker, WorkerPhase> {
  const live = liveGeneration(workers, facts)
  const of = (generation: number): readonly Worker[] =>
    workers.filter((worker) => worker.generation === generation)
  const isOver = live !== null && isTakenOver(workers, of(live), live, facts)
  return new Map(workers.map((worker) => [worker, phaseOf(worker, live, isOver)]))
}

function phaseOf(worker: SteeredWorker, live: number | null, isOver: boolean): WorkerPhase {
  // Whoever has closed its ports does not open them again.
  if (worker.phase === 'retiring') return 'retiring'
  if (live === null || worker.generation > live) return 'standby'
  if (worker.generation === live) return 'live'
  return worker.phase === 'live' && !isOver ? 'live' : 'retiring'
}

/** The generation that takes connections; null while there is none. */
function liveGeneration(workers: readonly SteeredWorker[], facts: GenerationFacts): number | null {
  const newest = (some: readonly SteeredWorker[]): number | null =>
    some.length === 0 ? null : Math.max(...some.map(({ generation }) => generation))
  const live = newest(workers.filter(({ phase }) => phase === 'live'))
  const able = workers.filter(({ phase }) => phase !== 'retiring')
  // With nobody to take over from there is nothing to wait for.
  if (live === null) {
    return newest(facts.allAreBack ? able : able.filter(({ phase }) => phase === null))
  }
  if (new Set(workers.map(({ generation }) => generation)).size > mostGenerations) return live
  const ready = able.filter(({ generation }) => {
    return generation > live && isComplete(workers, generation, facts.wanted)
  })
  return newest(ready) ?? live
}

/** Whether every worker of a generation is there and could serve. */
function isComplete(
  workers: readonly SteeredWorker[],
  generation: number,
  wanted: number,
): boolean {
  const ready = workers.filter((worker) => worker.generation === generation && worker.isReady)
  return new Set(ready.map(({ index }) => index)).size >= wanted
}

/** Whether a live generation listens wherever an older one does, so that those may close. */
function isTakenOver(
  workers: readonly SteeredWorker[],
  ofLive: readonly SteeredWorker[],
  live: number,
  { wanted, leadsTo }: GenerationFacts,
): boolean {
  if (new Set(ofLive.map(({ index }) => index)).size < wanted || !leadsTo(live)) return false
  const older = workers.filter(({ generation }) => generation < live)
  const held = new Set(older.flatMap(({ listening }) => openPorts(listening.listeners)))
  return ofLive.every(({ phase, listening: { tunnelPort, listeners } }) => {
    const shut = listeners.filter(({ problem }) => problem !== '').map(placeOf)
    return phase === 'live' && tunnelPort !== 0 && !shut.some((place) => held.has(place))
  })
}

function openPorts(listeners: readonly ListenerState[]): readonly string[] {
  return listeners.filter(({ problem }) => problem === '').map(placeOf)
}

function placeOf({ address, port }: ListenerState): string {
  return `${address} ${port}`
}
