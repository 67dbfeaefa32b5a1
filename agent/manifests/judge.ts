/**
 * Owns the judgement of all manifests together: who may claim a service name or a local port, and
 * what stays in force for a file that is bad. Pure: it is asked anew after every change, and knows
 * of the past only the versions that were in force.
 */

import type { Manifest } from '#shared/model/manifest.ts'
import type { ManifestReading } from '#shared/schema/manifest.ts'
import type { Problem } from '#shared/schema/problem.ts'

/** A file that takes part. */
export interface Candidate {
  readonly path: string
  readonly mtimeMs: number
  readonly reading: ManifestReading
  /** What was last accepted of it. */
  readonly lastGood: Manifest | null
}

/** What becomes of a file. */
export interface Judgement {
  readonly path: string
  readonly verdict: 'accepted' | 'rejected'
  /** Empty where accepted. */
  readonly problems: readonly Problem[]
  /** What is in force: this version, the last good one, or nothing. */
  readonly manifest: Manifest | null
}

/** A name that only one file may hold, and where the file asks for it. */
interface Claim {
  readonly key: string
  readonly pointer: string
  readonly words: string
  readonly hint: string
}

/**
 * Judges all candidates. Of two that claim the same, the one whose claim is in force keeps it, so
 * that touching a file never takes a service from itself; else the older one wins, then the name.
 *
 * @param isLocal - whether an IP address belongs to this host
 */
export function judge(
  candidates: readonly Candidate[],
  isLocal: (address: string) => boolean,
): readonly Judgement[] {
  const inOrder = [...candidates].sort(
    (a, b) => a.mtimeMs - b.mtimeMs || (a.path < b.path ? -1 : 1),
  )
  const holders = new Map<string, string>()
  for (const { path, reading, lastGood } of inOrder) {
    const asked = reading.ok ? reading.manifest : lastGood
    const keys = new Set(claimsOf(asked).map(({ key }) => key))
    for (const { key } of claimsOf(lastGood)) {
      if (keys.has(key) && !holders.has(key)) holders.set(key, path)
    }
  }
  const take = (path: string, manifest: Manifest): void => {
    for (const { key } of claimsOf(manifest)) holders.set(key, path)
  }
  const judgements = inOrder.map((candidate): Judgement => {
    const { path, reading, lastGood } = candidate
    const problems = reading.ok ? faultsOf(reading, holders, isLocal) : reading.problems
    if (reading.ok && problems.length === 0) {
      take(path, reading.manifest)
      return { path, verdict: 'accepted', problems, manifest: reading.manifest }
    }
    const usable = lastGood !== null && isUsable(lastGood, holders, isLocal)
    if (usable) take(path, lastGood)
    return { path, verdict: 'rejected', problems, manifest: usable ? lastGood : null }
  })
  return judgements.sort((a, b) => (a.path < b.path ? -1 : 1))
}

function faultsOf(
  { manifest, document }: ManifestReading & { readonly ok: true },
  holders: ReadonlyMap<string, string>,
  isLocal: (address: string) => boolean,
): readonly Problem[] {
  const taken = claimsOf(manifest).flatMap(({ key, pointer, words, hint }) => {
    const holder = holders.get(key)
    if (holder === undefined || holder === manifest.file) return []
    const message = `${words} is taken by ${holder}, which came first`
    return [document.problem(pointer, { rule: 'already-claimed', message, hint })]
  })
  if (isLocal(manifest.address)) return taken
  const astray = document.problem('/address', {
    rule: 'not-local',
    message: `address ${manifest.address} is not one of this host`,
    hint: 'a manifest describes a service of its own host; drop it on the host that has the address',
  })
  return [astray, ...taken]
}

function isUsable(
  manifest: Manifest,
  holders: ReadonlyMap<string, string>,
  isLocal: (address: string) => boolean,
): boolean {
  const free = claimsOf(manifest).every(
    ({ key }) => (holders.get(key) ?? manifest.file) === manifest.file,
  )
  return free && isLocal(manifest.address)
}

function claimsOf(manifest: Manifest | null): readonly Claim[] {
  if (manifest === null) return []
  const { service, upstreams } = manifest
  const name: Claim = {
    key: `service ${service}`,
    pointer: '/name',
    words: `service "${service}"`,
    hint: 'give one of them another "name", or remove one file',
  }
  const ports = upstreams.map((upstream): Claim => ({
    key: `port ${upstream.port}`,
    pointer: `/upstreams/${upstream.service}`,
    words: `local port ${upstream.port}`,
    hint: 'choose a free local port',
  }))
  return [name, ...ports]
}
