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
    const keys = new Set(claimsOf(asked).map(({ key }) => key))
    for (const { key } of claimsOf(lastGood)) {
      if (keys.has(key) && !holders.has(key)) holders.set(key, { path, user })
    }
  }
  const take = ({ path, user }: Candidate, manifest: Manifest): void => {
    for (const { key } of claimsOf(manifest)) holders.set(key, { path, user })
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
  { isLocal, userServices, own }: JudgeRules,
): readonly Problem[] {
  const told = new Set<string>()
  const taken = claimsOf(manifest).flatMap((claim) => {
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
    ...ownFaults(manifest, own).map(({ pointer, fault }) => document.problem(pointer, fault)),
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

function isUsable(
  manifest: Manifest,
  holders: Holders,
  { isLocal, userServices, own }: JudgeRules,
): boolean {
  const free = claimsOf(manifest).every((claim) => otherHolder(manifest, claim, holders) === null)
  const faults = [...userFaults(manifest, userServices), ...ownFaults(manifest, own)]
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
function ownFaults(manifest: Manifest, own: readonly OwnPlace[]): readonly UserFault[] {
  return servedPorts(manifest).flatMap(({ name, port }) => {
    const what = ownPlaceAt(own, manifest.address, port)
    if (what === '') return []
    const message = `port ${port} of ${manifest.address} is the agent’s own: ${what}`
    const hint = 'let the service listen at another port, or move the agent’s in agent.json'
    const pointer = name === null ? mainPointer(manifest) : `/ports/${name}`
    return [{ pointer, fault: { rule: 'agents-port', message, hint } }]
  })
}

/** The keys of everything a file claims, or may keep of its last good version. */
export function claimedBy({ reading, lastGood }: Candidate): ReadonlySet<string> {
  const asked = reading.ok ? claimsOf(reading.manifest) : []
  return new Set([...asked, ...claimsOf(lastGood)].map(({ key }) => key))
}

/** A manifest never changes, and is judged again whenever any other one does. */
const claims = new WeakMap<Manifest, readonly Claim[]>()

function claimsOf(manifest: Manifest | null): readonly Claim[] {
  if (manifest === null) return []
  const known = claims.get(manifest)
  if (known !== undefined) return known
  const made = claimsIn(manifest)
  claims.set(manifest, made)
  return made
}

function claimsIn(manifest: Manifest): readonly Claim[] {
  const { service, address, upstreams, run } = manifest
  const name: Claim = {
    key: `service ${service}`,
    pointer: '/name',
    words: `service "${service}"`,
    hint: 'give one of them another "name", or remove one file',
  }
  const ports = upstreams.map((upstream): Claim => ({
    key: `port ${upstream.port}`,
    pointer: `/upstreams/${targetName(upstream.service, upstream.portName ?? null)}`,
    words: `local port ${upstream.port}`,
    hint: 'choose a free local port',
  }))
  const callers = run === undefined ? [] : [runClaim(run)]
  const places = servedPorts(manifest).flatMap(({ name: portName, port }): readonly Claim[] => {
    const pointer = portName === null ? mainPointer(manifest) : `/ports/${portName}`
    return [
      {
        key: `place ${address} ${port}`,
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
  return [name, ...places, ...callers, ...ports]
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
