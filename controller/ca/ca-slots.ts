/**
 * Owns slots of the CA apart from what is done with them: making one, making the first, and what is
 * read off one. It signs nothing for others.
 */

import type { Clock, Random } from '#shared/lifecycle/clock.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { TrustDomain } from '#shared/model/names.ts'
import type { CaSlot, CaState } from './ca-state.ts'
import { slotAfter, writeCaState } from './ca-state.ts'
import type { RootCertificate } from './certificates.ts'
import { makeIssuing, makeRoot } from './certificates.ts'
import type { Phase } from './rotation.ts'

/** Makes a CA with one slot and writes it. Throws MeshError `state-unwritable`. */
export async function createCa(
  parts: { readonly clock: Clock; readonly random: Random; readonly logger: Logger },
  settings: { readonly stateDirectory: string; readonly trustDomain: TrustDomain },
): Promise<CaState> {
  const { random, clock, logger } = parts
  const { trustDomain, stateDirectory } = settings
  const slot = await makeSlot(parts, trustDomain, clock.now())
  const current = slotAfter([])
  const phase: Phase = { kind: 'steady', current }
  const state: CaState = { trustDomain, phase, slots: new Map([[current, slot]]) }
  await writeCaState({ random }, stateDirectory, state)
  const serial = slot.root.certificate.serialNumber
  logger.info({ trustDomain, serial }, 'certificate authority created')
  return state
}

/** Makes a root and the certificate that issues under it. */
export async function makeSlot(
  { random }: { readonly random: Random },
  trustDomain: TrustDomain,
  nowMs: number,
): Promise<CaSlot> {
  const root = await makeRoot({ random }, { trustDomain, nowMs })
  return { root, issuing: await makeIssuing({ random, root }, { trustDomain, nowMs }) }
}

/** For the log. */
export function describeChange(before: CaState, after: CaState): string {
  const words = ({ phase }: CaState): string =>
    phase.kind === 'reissuing' ? `${phase.kind} ${phase.direction}` : phase.kind
  return `root rotation: ${words(before)} -> ${words(after)}`
}

/** The root of a slot. */
export function derOf(slot: CaSlot): Buffer {
  return Buffer.from(slot.root.certificate.rawData)
}

/** Milliseconds since the epoch. */
export function endOf(ca: RootCertificate): number {
  return ca.certificate.notAfter.getTime()
}
