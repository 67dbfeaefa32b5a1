/**
 * Owns the rules of CA slots: which phases a rotation of the root has, which slot does what in each,
 * and what it waits for before it goes on. Pure; `rotator.ts` is the loop that drives them.
 *
 * In every phase `current` is the slot every host trusts: the controller's own certificate and its
 * signatures come from it until the very end, so that a host that was away finds its way back.
 */

import type { BundleRotation } from '#shared/model/trust.ts'

declare const brand: unique symbol
/** Names a slot: a number that grows with every root of this CA. */
export type SlotId = string & { readonly [brand]: 'SlotId' }

/** Where a rotation stands. Times are milliseconds since the epoch. */
export type Phase =
  | { readonly kind: 'steady'; readonly current: SlotId }
  /** The next root is in the trust bundle; nothing is issued under it yet. */
  | {
      readonly kind: 'distributing'
      readonly current: SlotId
      readonly next: SlotId
      readonly sinceMs: number
    }
  /**
   * Both are trusted, and hosts renew what they hold under the slot that stays: `next` on the way
   * forward, `current` on the way back after an abort.
   */
  | {
      readonly kind: 'reissuing'
      readonly current: SlotId
      readonly next: SlotId
      readonly sinceMs: number
      readonly direction: 'forward' | 'back'
    }

/** How one host fares, as the store tells it. */
export interface HostFacts {
  readonly host: string
  /** Whether it is present, that is, its lease lives. */
  readonly live: boolean
  /** The bundle all its workers act on; 0 where it has not said. */
  readonly bundleEpoch: number
  /** Certificates it holds under the root that is to go. */
  readonly heldUnderLeaving: number
  /** How long no handshake at it has used that root; 0 while that is not known. */
  readonly quietMs: number
  /** What it says is in its way. */
  readonly problem: string
}

/** How another controller fares that is there now. */
export interface ControllerFacts {
  readonly name: string
  /** The bundle it acts on: it issues as that says; 0 where it has not said. */
  readonly bundleEpoch: number
}

/** How a node of an etcd fares, as a handshake with it tells. */
export interface StoreNodeFacts {
  /** `host:port`. */
  readonly node: string
  /** Whether nothing could be learned of it. */
  readonly isAway: boolean
  /** What it lacks to go on with the root that stays; empty where it has all. */
  readonly problem: string
}

/** What the rules look at. */
export interface RotationFacts {
  /** Epoch of the trust bundle that tells of this phase. */
  readonly bundleEpoch: number
  readonly hosts: readonly HostFacts[]
  /** Every other controller that is there. */
  readonly controllers: readonly ControllerFacts[]
  /** Every node of an etcd that asks for certificates; none where the store is embedded. */
  readonly storeNodes: readonly StoreNodeFacts[]
  /** How long a root must go unused before it is retired. */
  readonly quietMs: number
  /** No certificate outlives this. */
  readonly leafTtlMs: number
}

/** A host that is waited for, and why. */
export interface Laggard {
  readonly host: string
  readonly why: string
}

/** What is to be done next. */
export type NextStep =
  | { readonly kind: 'nothing' }
  | { readonly kind: 'wait'; readonly for: readonly Laggard[] }
  | { readonly kind: 'activate' }
  | { readonly kind: 'retire' }

/** The slot that leaves are issued under. */
export function issuingSlot(phase: Phase): SlotId {
  return phase.kind === 'reissuing' && phase.direction === 'forward' ? phase.next : phase.current
}

/** The slots whose roots are trusted, the oldest first. */
export function trustedSlots(phase: Phase): readonly SlotId[] {
  return phase.kind === 'steady' ? [phase.current] : [phase.current, phase.next]
}

/** The slot that goes once nobody uses it; null where none is on its way out. */
export function leavingSlot(phase: Phase): SlotId | null {
  if (phase.kind !== 'reissuing') return null
  return phase.direction === 'forward' ? phase.current : phase.next
}

/** Begins a rotation; null where one is under way. */
export function prepared(phase: Phase, next: SlotId, nowMs: number): Phase | null {
  if (phase.kind !== 'steady') return null
  return { kind: 'distributing', current: phase.current, next, sinceMs: nowMs }
}

/** From here on leaves are issued under the next root. */
export function activated(phase: Phase, nowMs: number): Phase | null {
  if (phase.kind !== 'distributing') return null
  const { current, next } = phase
  return { kind: 'reissuing', current, next, sinceMs: nowMs, direction: 'forward' }
}

/** Ends a rotation: before the activation at once, after it by going back the way it came. */
export function aborted(phase: Phase, nowMs: number): Phase | null {
  switch (phase.kind) {
    case 'steady':
      return null
    case 'distributing':
      return { kind: 'steady', current: phase.current }
    case 'reissuing':
      return phase.direction === 'back' ? null : { ...phase, direction: 'back', sinceMs: nowMs }
  }
}

/** The root that nobody uses any more is gone. */
export function retired(phase: Phase): Phase | null {
  if (phase.kind !== 'reissuing') return null
  return { kind: 'steady', current: issuingSlot(phase) }
}

/** What a trust bundle tells of a phase. */
export function told(phase: Phase): BundleRotation | null {
  switch (phase.kind) {
    case 'steady':
      return null
    case 'distributing':
      return { phase: 'distributing', sinceMs: phase.sinceMs }
    case 'reissuing':
      return { phase: phase.direction, sinceMs: phase.sinceMs }
  }
}

/** The phase that a trust bundle tells of; `slots` are those of its roots, in its order. */
export function followed(
  [current, next]: readonly [SlotId, ...SlotId[]],
  rotation: BundleRotation | null,
): Phase {
  if (next === undefined || rotation === null) return { kind: 'steady', current }
  const { phase, sinceMs } = rotation
  return phase === 'distributing'
    ? { kind: 'distributing', current, next, sinceMs }
    : { kind: 'reissuing', current, next, sinceMs, direction: phase }
}

/** Whether two phases are the same. */
export function isSamePhase(one: Phase, other: Phase): boolean {
  const [a, b] = [told(one), told(other)]
  const slots = [one, other].map((phase) => trustedSlots(phase).join())
  return slots[0] === slots[1] && a?.phase === b?.phase && a?.sinceMs === b?.sinceMs
}

/** What a rotation waits for, or what is to be done now. */
export function nextStep(phase: Phase, facts: RotationFacts, nowMs: number): NextStep {
  switch (phase.kind) {
    case 'steady':
      return { kind: 'nothing' }
    case 'distributing': {
      // A host that is away catches up when it is back: it still trusts whom it finds here.
      const live = facts.hosts.filter((host) => host.live)
      const laggards = [
        ...controllersBehind(facts),
        ...storeNodesBehind(facts.storeNodes),
        ...live.flatMap((host) => notAcknowledged(host, facts.bundleEpoch)),
      ]
      return laggards.length > 0 ? { kind: 'wait', for: laggards } : { kind: 'activate' }
    }
    case 'reissuing': {
      // A node's certificate outlives every host's, so that it is waited for as long as it is seen.
      const seen = facts.storeNodes.filter(({ isAway }) => !isAway)
      const lasting = [...controllersBehind(facts), ...storeNodesBehind(seen)]
      if (lasting.length > 0) return { kind: 'wait', for: lasting }
      // Whatever was issued to hosts under the root that goes has ended by now.
      if (nowMs - phase.sinceMs > facts.leafTtlMs + facts.quietMs) return { kind: 'retire' }
      const laggards = [
        ...storeNodesBehind(facts.storeNodes),
        ...facts.hosts.flatMap((host) => notRenewed(host, facts)),
      ]
      return laggards.length > 0 ? { kind: 'wait', for: laggards } : { kind: 'retire' }
    }
  }
}

/** A controller that goes on under the old root would issue what nobody trusts. */
function controllersBehind({ controllers, bundleEpoch }: RotationFacts): readonly Laggard[] {
  return controllers
    .filter((controller) => controller.bundleEpoch < bundleEpoch)
    .map(({ name }) => ({ host: `controller ${name}`, why: 'it does not follow yet' }))
}

/** A node that does not know the root that stays refuses everybody who does; nobody knows one of the other. */
function storeNodesBehind(nodes: readonly StoreNodeFacts[]): readonly Laggard[] {
  return nodes
    .filter(({ problem }) => problem !== '')
    .map(({ node, problem }) => ({ host: `etcd ${node}`, why: problem }))
}

function notAcknowledged(facts: HostFacts, bundleEpoch: number): readonly Laggard[] {
  const { host, problem } = facts
  if (facts.bundleEpoch >= bundleEpoch) return []
  const known =
    facts.bundleEpoch === 0
      ? 'it has not said which trust bundle it acts on'
      : `it acts on trust bundle ${facts.bundleEpoch}, not ${bundleEpoch}`
  return [{ host, why: problem === '' ? known : `${known}: ${problem}` }]
}

function notRenewed(facts: HostFacts, { bundleEpoch, quietMs }: RotationFacts): readonly Laggard[] {
  const { host, problem, heldUnderLeaving: held } = facts
  if (!facts.live) {
    return [{ host, why: 'it is away; its certificates may still be of the root that goes' }]
  }
  const lag = notAcknowledged(facts, bundleEpoch)
  if (lag.length > 0) return lag
  if (held > 0) {
    const why = `it holds ${held} certificate${held === 1 ? '' : 's'} of the root that goes`
    return [{ host, why: problem === '' ? why : `${why}: ${problem}` }]
  }
  if (facts.quietMs >= quietMs) return []
  return [{ host, why: 'a handshake has used the root that goes a moment ago' }]
}
