/**
 * Owns the judgement of all manifests together: who may claim a service name or a local port, and
 * what stays in force for a file that is bad. Pure: it is asked anew after every change, and knows
 * of the past only the versions that were in force.
 */

import { servedPorts, type Manifest, type RunAs } from '#shared/model/manifest.ts'
import { targetName } from '#shared/model/target.ts'
import type { ManifestReading } from '#shared/schema/manifest.ts'
import type { Problem } from '#shared/schema/problem.ts'
import { ownPlaceAt, type OwnPlace } from './own-places.ts'
import { userFaults, type UserFault, type UserServices } from './user-rules.ts'

/** What judging leans on. */
export interface JudgeRules {
  /** Whether an IP address belongs to this host. */
  readonly isLocal: (address: string) => boolean
  readonly userServices: UserServices
  /** Where the agent itself listens. */
  readonly own: readonly OwnPlace[]
  /** Where it opens local ports. */
  readonly explicitAddress: string
}

/** A file that takes part. */
export interface Candidate {
  readonly path: string
  /** The local user whose it is; null for the administrator's. */
  readonly user: string | null
  readonly mtimeMs: number
  readonly reading: ManifestReading
  /** What was last accepted of it. */
  readonly lastGood: Manifest | null
}

/** What becomes of a file. */
export interface Judgement {
  readonly path: string
  /** The local user whose it is; null for the administrator's. */
  readonly user: string | null
  readonly verdict: 'accepted' | 'rejected'
  /** Empty where accepted. */
  readonly problems: readonly Problem[]
  /** What is in force: this version, the last good one, or nothing. */
  readonly manifest: Manifest | null
}

/** A name that only one file may hold, and where the file asks for it. */
interface Claim {
  readonly key: string
  /** Whether files of one rank share it: those of the administrator, or those of one user. */
  readonly isShared?: true
  readonly pointer: string
  readonly words: string
  readonly hint: string
}

/**
 * Judges all candidates. Of two that claim the same, the one whose claim is in force keeps it, so
 * that touching a file never takes a service from itself; else the older one wins, then the name.
 * The administrator's files go before those of users, who could make theirs look old.
 */
export function judge(candidates: readonly Candidate[], rules: JudgeRules): readonly Judgement[] {
  const holders: Holders = new Map()
  const inOrder = [...candidates].sort(
    (a, b) => a.mtimeMs - b.mtimeMs || (a.path < b.path ? -1 : 1),
  )
  const byRank = [true, false].map((rank) => inOrder.filter(({ user }) => (user === null) === rank))
  return byRank
    .flatMap((some) => judgeEqual(some, holders, rules))
    .sort((a, b) => (a.path < b.path ? -1 : 1))
}

interface Holder {
  readonly path: string
  readonly user: string | null
}

type Holders = Map<string, Holder>

/** Judges candidates of one rank, oldest first, after those of higher rank hold what they claim. */
function judgeEqual(
  inOrder: readonly Candidate[],
  holders: Holders,
  rules: JudgeRules,
): readonly Judgement[] {
  for (const { path, user, reading, lastGood } of inOrder) {
    const asked = reading.ok ? reading.manifest : lastGood
    const keys = new Set(claimsOf(asked, rules).map(({ key }) => key))
    for (const { key } of claimsOf(lastGood, rules)) {
      if (keys.has(key) && !holders.has(key)) holders.set(key, { path, user })
    }
  }
  const take = ({ path, user }: Candidate, manifest: Manifest): void => {
    for (const { key } of claimsOf(manifest, rules)) holders.set(key, { path, user })
  }
  return inOrder.map((candidate): Judgement => {
    const { path, user, reading, lastGood } = candidate
    const problems = reading.ok ? faultsOf(reading, holders, rules) : reading.problems
    if (reading.ok && problems.length === 0) {
      take(candidate, reading.manifest)
      return { path, user, verdict: 'accepted', problems, manifest: reading.manifest }
    }
    const usable = lastGood !== null && isUsable(lastGood, holders, rules)
    if (usable) take(candidate, lastGood)
    return { path, user, verdict: 'rejected', problems, manifest: usable ? lastGood : null }
  })
}

function faultsOf(
  { manifest, document }: ManifestReading & { readonly ok: true },
  holders: Holders,
  rules: JudgeRules,
): readonly Problem[] {
  const { isLocal, userServices } = rules
  const told = new Set<string>()
  const taken = claimsOf(manifest, rules).flatMap((claim) => {
    const { pointer, words, hint } = claim
    const holder = otherHolder(manifest, claim, holders)
    // A port that is taken at this address is taken anyhow.
    if (holder === null || told.has(pointer)) return []
    told.add(pointer)
    const outranked = holder.user === null && manifest.owner !== undefined
    const why = outranked ? 'the administrator’s, which goes first' : 'which came first'
    const message = `${words} is taken by ${holder.path}, ${why}`
    return [document.problem(pointer, { rule: 'already-claimed', message, hint })]
  })
  const faults = [
    ...userFaults(manifest, userServices).map(({ pointer, fault }) =>
      document.problem(pointer, fault),
    ),
    ...ownFaults(manifest, rules).map(({ pointer, fault }) => document.problem(pointer, fault)),
    ...taken,
  ]
  if (isLocal(manifest.address)) return faults
  const astray = document.problem('/address', {
    rule: 'not-local',
    message: `address ${manifest.address} is not one of this host`,
    hint: 'a manifest describes a service of its own host; drop it on the host that has the address',
  })
  return [astray, ...faults]
}

function isUsable(manifest: Manifest, holders: Holders, rules: JudgeRules): boolean {
  const { isLocal, userServices } = rules
  const free = claimsOf(manifest, rules).every(
    (claim) => otherHolder(manifest, claim, holders) === null,
  )
  const faults = [...userFaults(manifest, userServices), ...ownFaults(manifest, rules)]
  return free && isLocal(manifest.address) && faults.length === 0
}

/** Who keeps a file from what it claims; null where nobody does. */
function otherHolder(manifest: Manifest, claim: Claim, holders: Holders): Holder | null {
  const { file, owner } = manifest
  const holder = holders.get(claim.key)
  if (holder === undefined || holder.path === file) return null
  if (claim.isShared === true && (owner === undefined || holder.user === owner)) return null
  return holder
}

/** The agent is no service, whoever says so. */
function ownFaults(
  manifest: Manifest,
  rules: ClaimRules & Pick<JudgeRules, 'own'>,
): readonly UserFault[] {
  return portsOf(manifest, rules).flatMap(({ address, port, pointer, isServed }) => {
    const what = ownPlaceAt(rules.own, address, port)
    if (what === '') return []
    const message = `port ${port} of ${address} is the agent’s own: ${what}`
    const other = isServed ? 'let the service listen at another port' : 'choose a free local port'
    const hint = `${other}, or move the agent’s in agent.json`
    return [{ pointer, fault: { rule: 'agents-port', message, hint } }]
  })
}

/** What claims depend on beside the manifest. */
type ClaimRules = Pick<JudgeRules, 'explicitAddress'>

/** The keys of everything a file claims, or may keep of its last good version: whether its rank shares them. */
export function claimedBy(
  { reading, lastGood }: Candidate,
  rules: ClaimRules,
): ReadonlyMap<string, boolean> {
  const asked = reading.ok ? claimsOf(reading.manifest, rules) : []
  const all = [...asked, ...claimsOf(lastGood, rules)]
  return new Map(all.map(({ key, isShared = false }) => [key, isShared]))
}

/** A manifest never changes, and is judged again whenever any other one does. */
const claims = new WeakMap<Manifest, { readonly at: string; readonly made: readonly Claim[] }>()

function claimsOf(manifest: Manifest | null, rules: ClaimRules): readonly Claim[] {
  if (manifest === null) return []
  const at = rules.explicitAddress
  const known = claims.get(manifest)
  if (known?.at === at) return known.made
  const made = claimsIn(manifest, rules)
  claims.set(manifest, { at, made })
  return made
}

function claimsIn(manifest: Manifest, rules: ClaimRules): readonly Claim[] {
  const { service, run } = manifest
  const name: Claim = {
    key: `service ${service}`,
    pointer: '/name',
    words: `service "${service}"`,
    hint: 'give one of them another "name", or remove one file',
  }
  const callers = run === undefined ? [] : [runClaim(run)]
  const places = portsOf(manifest, rules).flatMap((one): readonly Claim[] => {
    const { address, port, pointer, isServed } = one
    const key = `place ${address} ${port}`
    if (!isServed) {
      return [{ key, pointer, words: `local port ${port}`, hint: 'choose a free local port' }]
    }
    return [
      {
        key,
        pointer,
        words: `port ${port} of ${address}`,
        hint: 'one service is one manifest; remove one file or correct its "port"',
      },
      // Locks go by port, and who listens at every address answers at a user's too.
      {
        key: `served ${port}`,
        isShared: true,
        pointer,
        words: `port ${port}, at whatever address,`,
        hint: 'the service of a user needs a port that no service of others has; choose another',
      },
    ]
  })
  return [name, ...places, ...callers]
}

/** A port that somebody listens at because of a manifest. */
interface ManifestPlace {
  readonly address: string
  readonly port: number
  readonly pointer: string
  /** Whether it is the service's own, not one that leads to another. */
  readonly isServed: boolean
}

/** The ports of the service, and the local ones that the agent opens for it. */
function portsOf(manifest: Manifest, { explicitAddress }: ClaimRules): readonly ManifestPlace[] {
  const { address, upstreams } = manifest
  const served = servedPorts(manifest).map(({ name, port }) => {
    const pointer = name === null ? mainPointer(manifest) : `/ports/${name}`
    return { address, port, pointer, isServed: true }
  })
  const local = upstreams.map(({ service, portName = null, port }) => {
    const pointer = `/upstreams/${targetName(service, portName)}`
    return { address: explicitAddress, port, pointer, isServed: false }
  })
  return [...served, ...local]
}

/** Where a manifest gives its main port. */
function mainPointer({ port, ports }: Manifest): string {
  const named = ports.find((one) => one.port === port)
  return named === undefined ? '/port' : `/ports/${named.name}`
}

/** What a user or a unit does is one service's: the kernel tells connections apart by nothing finer. */
function runClaim(run: RunAs): Claim {
  const name = run.kind === 'user' ? run.user : run.unit
  return {
    key: `${run.kind} ${name}`,
    pointer: `/run/${run.kind}`,
    words: `${run.kind} "${name}"`,
    hint: 'let each service run as a user, or a unit, of its own',
  }
}
