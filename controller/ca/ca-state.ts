/**
 * Owns the CA's directory on disk: `<state>/ca` with `ca.json` (format, trust domain) and one PEM
 * file each for root and issuing certificate, key included. It comes into being by one rename, so
 * a directory of that name is always whole; a newer format is refused before anything is touched.
 */

import { existsSync } from 'node:fs'
import { mkdir, readFile, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { syncDirectory, writeFileAtomic, writeFileSynced } from '#shared/lifecycle/atomic-file.ts'
import type { Random } from '#shared/lifecycle/clock.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { TrustDomain } from '#shared/model/names.ts'
import { parseTrustDomain } from '#shared/model/names.ts'
import { keyFromPem, keyToPem } from '#shared/pki/keys.ts'
import { splitPem } from '#shared/pki/trust.ts'
import { x509 } from '#shared/pki/x509.ts'
import type { CaCertificate } from './certificates.ts'
import { keyFits } from './certificates.ts'

/** What the directory holds. */
export interface CaState {
  readonly trustDomain: TrustDomain
  readonly root: CaCertificate
  readonly issuing: CaCertificate
}

/** The format this code writes; newer ones are not ours to read. */
const format = 1
const names = { facts: 'ca.json', root: 'root.pem', issuing: 'issuing.pem' } as const
const unfinished = 'ca.new-'

/**
 * Reads the CA, or null where there is none yet. Throws MeshError `state-from-newer-version` or
 * `state-damaged`; writes nothing.
 */
export async function readCaState(stateDirectory: string): Promise<CaState | null> {
  const directory = join(stateDirectory, 'ca')
  if (!existsSync(directory)) return null
  const trustDomain = await readFacts(join(directory, names.facts))
  return {
    trustDomain,
    root: await readCaFile(join(directory, names.root)),
    issuing: await readCaFile(join(directory, names.issuing)),
  }
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
    const facts = { format, trustDomain: state.trustDomain }
    await writeFileSynced(join(fresh, names.facts), `${JSON.stringify(facts, null, 2)}\n`)
    await writeFileSynced(join(fresh, names.root), toPem(state.root))
    await writeFileSynced(join(fresh, names.issuing), toPem(state.issuing))
    await syncDirectory(fresh)
    await rename(fresh, join(stateDirectory, 'ca'))
    await syncDirectory(stateDirectory)
  } catch (error) {
    throw unwritable(stateDirectory, error)
  }
}

/** Replaces the issuing certificate. Throws MeshError `state-unwritable`. */
export async function writeIssuing(stateDirectory: string, issuing: CaCertificate): Promise<void> {
  try {
    await writeFileAtomic(join(stateDirectory, 'ca', names.issuing), toPem(issuing))
  } catch (error) {
    throw unwritable(stateDirectory, error)
  }
}

async function readFacts(path: string): Promise<TrustDomain> {
  const text = await readText(path)
  let facts: unknown
  try {
    facts = JSON.parse(text)
  } catch {
    throw damaged(path, 'it is not JSON')
  }
  const { format: found, trustDomain } = (facts ?? {}) as Readonly<Record<string, unknown>>
  if (typeof found === 'number' && found > format) {
    throw new MeshError(
      `${path} is of format ${found}; this mesh-controller reads up to ${format}`,
      {
        code: 'state-from-newer-version',
        hint: 'run the newer mesh-controller that wrote it, or name another state directory',
      },
    )
  }
  if (found !== format || typeof trustDomain !== 'string') {
    throw damaged(path, 'it lacks its format or trust domain')
  }
  const parsed = parseTrustDomain(trustDomain)
  if (!parsed.ok) throw damaged(path, parsed.problem)
  return parsed.value
}

async function readCaFile(path: string): Promise<CaCertificate> {
  const text = await readText(path)
  const key = keyFromPem(text)
  const certificates = splitPem(text)
  const [first] = certificates.ok ? certificates.value : []
  if (key === null || first === undefined) throw damaged(path, 'it lacks its key or certificate')
  const ca = { certificate: new x509.X509Certificate(first.raw), key }
  if (!keyFits(ca)) throw damaged(path, 'its key is not that of its certificate')
  return ca
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw damaged(path, 'it is missing')
    throw new MeshError(`cannot read ${path}: ${messageOf(error)}`, {
      code: 'state-unreadable',
      hint: 'mesh-controller must run as the user that owns its state directory',
      cause: error,
    })
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

function toPem(ca: CaCertificate): string {
  return `${ca.certificate.toString('pem')}\n${keyToPem(ca.key)}`
}

function damaged(path: string, why: string): MeshError {
  return new MeshError(`${path} is damaged: ${why}`, {
    code: 'state-damaged',
    hint: 'restore the state directory from a backup; a new CA would mean enrolling every host anew',
  })
}

function unwritable(directory: string, error: unknown): MeshError {
  return new MeshError(`cannot write the CA in ${directory}: ${messageOf(error)}`, {
    code: 'state-unwritable',
    hint: 'mesh-controller must run as the user that owns its state directory, with space on the disk',
    cause: error,
  })
}
