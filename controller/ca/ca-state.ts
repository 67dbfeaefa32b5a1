/**
 * Owns the CA's directory on disk: `<state>/ca` with `ca.json` (format, trust domain, phase of the
 * rotation) and for each slot one PEM file each for root and issuing certificate, key included. The
 * directory comes into being by one rename and changes by one rename of `ca.json`: what that file
 * does not name is never in use. A newer format is refused before anything is touched.
 */

import { existsSync } from 'node:fs'
import { mkdir, readFile, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { syncDirectory, writeFileAtomic, writeFileSynced } from '#shared/lifecycle/atomic-file.ts'
import type { Random } from '#shared/lifecycle/clock.ts'
import type { TrustDomain } from '#shared/model/names.ts'
import { parseTrustDomain } from '#shared/model/names.ts'
import { keyFromPem, keyToPem } from '#shared/pki/keys.ts'
import { splitPem } from '#shared/pki/trust.ts'
import { x509 } from '#shared/pki/x509.ts'
import type { CaCertificate, RootCertificate } from './certificates.ts'
import { keyFits } from './certificates.ts'
import type { Phase, SlotId } from './rotation.ts'
import { trustedSlots } from './rotation.ts'
import { damaged, fromNewerVersion, unreadable, unwritable } from './state-faults.ts'

/** One root with the certificate that issues under it. */
export interface CaSlot {
  /** Without its key on a controller whose issuing certificate was signed elsewhere. */
  readonly root: RootCertificate
  readonly issuing: CaCertificate
}

/** What the directory holds. */
export interface CaState {
  readonly trustDomain: TrustDomain
  readonly phase: Phase
  /** Every slot the phase names. */
  readonly slots: ReadonlyMap<SlotId, CaSlot>
  /** Read from a directory of an older format, which is to be written anew. */
  readonly isOld?: boolean
}

/** The format this code writes; newer ones are not ours to read. */
const format = 2
const without = 'a new CA would mean enrolling every host anew'
const factsName = 'ca.json'
const unfinished = 'ca.new-'
const keptElsewhere = '# the private key of this root is kept elsewhere\n'
const rootName = (slot: SlotId): string => `${slot}.root.pem`
const issuingName = (slot: SlotId): string => `${slot}.issuing.pem`
/** Format 1 knew one slot, without a name. */
const firstFormat = { slot: '1' as SlotId, root: 'root.pem', issuing: 'issuing.pem' } as const

/**
 * Reads the CA, or null where there is none yet. Throws MeshError `state-from-newer-version` or
 * `state-damaged`; writes nothing.
 */
export async function readCaState(stateDirectory: string): Promise<CaState | null> {
  const directory = join(stateDirectory, 'ca')
  if (!existsSync(directory)) return null
  const facts = await readFacts(join(directory, factsName))
  const slots = new Map<SlotId, CaSlot>()
  for (const slot of trustedSlots(facts.phase)) {
    const [root, issuing] =
      facts.format === 1
        ? [firstFormat.root, firstFormat.issuing]
        : [rootName(slot), issuingName(slot)]
    slots.set(slot, {
      root: await readRootFile(join(directory, root)),
      issuing: await readCaFile(join(directory, issuing)),
    })
  }
  const { trustDomain, phase } = facts
  return { trustDomain, phase, slots, isOld: facts.format === 1 }
}

/** Writes a new CA. Throws MeshError `state-unwritable`; one that is there already is never replaced. */
export async function writeCaState(
  parts: { readonly random: Random },
  stateDirectory: string,
  state: CaState,
): Promise<void> {
  try {
    await mkdir(stateDirectory, { recursive: true, mode: 0o700 })
    await removeUnfinished(stateDirectory)
    const fresh = join(stateDirectory, unfinished + parts.random.bytes(6).toString('hex'))
    await mkdir(fresh, { mode: 0o700 })
    await writeFileSynced(join(fresh, factsName), factsText(state))
    for (const [slot, { root, issuing }] of state.slots) {
      await writeFileSynced(join(fresh, rootName(slot)), toPem(root))
      await writeFileSynced(join(fresh, issuingName(slot)), toPem(issuing))
    }
    await syncDirectory(fresh)
    await rename(fresh, join(stateDirectory, 'ca'))
    await syncDirectory(stateDirectory)
  } catch (error) {
    throw unwritable(`the CA in ${stateDirectory}`, error)
  }
}

/**
 * Brings the directory from one state to the next: what is new first, then the file that names it.
 * Throws MeshError `state-unwritable`; the directory then still holds the state before.
 */
export async function changeCaState(
  stateDirectory: string,
  before: Pick<CaState, 'slots'>,
  after: CaState,
): Promise<void> {
  const directory = join(stateDirectory, 'ca')
  try {
    for (const [slot, { root, issuing }] of after.slots) {
      const known = before.slots.get(slot)
      if (known?.root !== root) await writeFileAtomic(join(directory, rootName(slot)), toPem(root))
      if (known?.issuing !== issuing) {
        await writeFileAtomic(join(directory, issuingName(slot)), toPem(issuing))
      }
    }
    await writeFileAtomic(join(directory, factsName), factsText(after))
  } catch (error) {
    throw unwritable(`the CA in ${stateDirectory}`, error)
  }
}

/** Removes what a crash, or an older format, has left and nothing names. */
export async function removeUnnamed(stateDirectory: string, state: CaState): Promise<void> {
  const directory = join(stateDirectory, 'ca')
  const named = new Set<string>([factsName])
  for (const slot of state.slots.keys()) named.add(rootName(slot)).add(issuingName(slot))
  for (const name of await readdir(directory)) {
    if (!named.has(name)) await rm(join(directory, name), { recursive: true, force: true })
  }
  await syncDirectory(directory)
}

/** The name of the slot after all of these. */
export function slotAfter(slots: Iterable<SlotId>): SlotId {
  return String(Math.max(0, ...[...slots].map(Number)) + 1) as SlotId
}

interface Facts {
  readonly format: 1 | 2
  readonly trustDomain: TrustDomain
  readonly phase: Phase
}

async function readFacts(path: string): Promise<Facts> {
  const text = await readText(path)
  let facts: unknown
  try {
    facts = JSON.parse(text)
  } catch {
    throw damaged(path, 'it is not JSON', without)
  }
  const { format: found, trustDomain, phase } = (facts ?? {}) as Readonly<Record<string, unknown>>
  if (typeof found === 'number' && found > format) {
    throw fromNewerVersion(path, found, format)
  }
  if ((found !== 1 && found !== 2) || typeof trustDomain !== 'string') {
    throw damaged(path, 'it lacks its format or trust domain', without)
  }
  const parsed = parseTrustDomain(trustDomain)
  if (!parsed.ok) throw damaged(path, parsed.problem, without)
  const known = found === 1 ? steadyFirst : readPhase(phase)
  if (known === null) throw damaged(path, 'it does not say which root is in use', without)
  return { format: found, trustDomain: parsed.value, phase: known }
}

const steadyFirst: Phase = { kind: 'steady', current: firstFormat.slot }

function readPhase(value: unknown): Phase | null {
  const { kind, current, next, sinceMs, direction } = (value ?? {}) as Readonly<
    Record<string, unknown>
  >
  if (!isSlot(current)) return null
  if (kind === 'steady') return { kind, current }
  if (!isSlot(next) || next === current || typeof sinceMs !== 'number') return null
  if (kind === 'distributing') return { kind, current, next, sinceMs }
  if (kind !== 'reissuing' || (direction !== 'forward' && direction !== 'back')) return null
  return { kind, current, next, sinceMs, direction }
}

/** Slots stand in file names. */
function isSlot(value: unknown): value is SlotId {
  return typeof value === 'string' && /^[1-9]\d{0,8}$/.test(value)
}

/** A root that lacks its key has to say so: one that has lost it is damaged. */
async function readRootFile(path: string): Promise<RootCertificate> {
  const text = await readText(path)
  if (!text.includes(keptElsewhere)) return readCaFile(path)
  const certificates = splitPem(text)
  const [first] = certificates.ok ? certificates.value : []
  if (first === undefined) throw damaged(path, 'it lacks its certificate', without)
  return { certificate: new x509.X509Certificate(first.raw), key: null }
}

async function readCaFile(path: string): Promise<CaCertificate> {
  const text = await readText(path)
  const key = keyFromPem(text)
  const certificates = splitPem(text)
  const [first] = certificates.ok ? certificates.value : []
  if (key === null || first === undefined)
    throw damaged(path, 'it lacks its key or certificate', without)
  const ca = { certificate: new x509.X509Certificate(first.raw), key }
  if (!keyFits(ca)) throw damaged(path, 'its key is not that of its certificate', without)
  return ca
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT')
      throw damaged(path, 'it is missing', without)
    throw unreadable(path, error)
  }
}

/** What a crash left behind was never in use. */
async function removeUnfinished(stateDirectory: string): Promise<void> {
  for (const name of await readdir(stateDirectory)) {
    if (name.startsWith(unfinished)) {
      await rm(join(stateDirectory, name), { recursive: true, force: true })
    }
  }
}

function factsText({ trustDomain, phase }: CaState): string {
  return `${JSON.stringify({ format, trustDomain, phase }, null, 2)}\n`
}

function toPem(ca: RootCertificate): string {
  return `${ca.certificate.toString('pem')}\n${ca.key === null ? keptElsewhere : keyToPem(ca.key)}`
}
