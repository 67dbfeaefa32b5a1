/**
 * Owns the files of identity: `<state>/identity/host.json` (the host's credential and the mesh it
 * belongs to) and `service.<name>.json` for each service, mode 0600, written whole or not at all.
 * A file that cannot be used is reported and otherwise as good as absent.
 */

import { mkdir, readFile, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { writeFileAtomic } from '#shared/lifecycle/atomic-file.ts'
import { MeshError, messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { HostName, Parsed, ServiceName } from '#shared/model/names.ts'
import { parseServiceName } from '#shared/model/names.ts'
import type { SpiffeId } from '#shared/model/spiffe-id.ts'
import { hostId, serviceId } from '#shared/model/spiffe-id.ts'
import type { HeldCredential } from './held-credential.ts'
import { readCredential } from './held-credential.ts'
import type { MeshFacts } from './mesh-facts.ts'
import { parseMesh } from './mesh-facts.ts'

/** What the host's file holds. */
export interface HostFile {
  readonly credential: HeldCredential
  readonly mesh: MeshFacts
  /** Public id of the token the host enrolled with; null where it is not known. */
  readonly tokenId: string | null
}

/** What was found on disk. */
export interface LoadedIdentity {
  /** Null where the host has not enrolled; a problem where its file is damaged. */
  readonly host: Parsed<HostFile> | null
  readonly services: ReadonlyMap<ServiceName, HeldCredential>
  /** Damaged service files, for the log. */
  readonly problems: readonly string[]
}

const format = 1

type Fields = Readonly<Record<string, unknown>>

/** See the header. */
export class IdentityFiles {
  readonly #directory: string
  readonly #host: HostName

  constructor(settings: { readonly stateDirectory: string; readonly host: HostName }) {
    this.#directory = join(settings.stateDirectory, 'identity')
    this.#host = settings.host
  }

  /** Where the host's file stands, for messages. */
  get hostPath(): string {
    return join(this.#directory, 'host.json')
  }

  /** Reads everything. Throws MeshError `state-unusable`, `state-newer`. */
  async load(): Promise<LoadedIdentity> {
    const names = await this.#open()
    const host = await this.#loadHost()
    const services = new Map<ServiceName, HeldCredential>()
    const problems: string[] = []
    for (const name of names) {
      const service = parseServiceName(/^service\.(.+)\.json$/.exec(name)?.[1] ?? '')
      if (!service.ok || host?.ok !== true) continue
      const { trustDomain } = host.value.mesh
      const fields = (await this.#read(name)) ?? {}
      const found = credentialOf(fields, serviceId(trustDomain, service.value))
      if (found.ok) services.set(service.value, found.value)
      else problems.push(`${join(this.#directory, name)}: ${found.problem}`)
    }
    return { host, services, problems }
  }

  async saveHost(file: HostFile): Promise<void> {
    const { credential, mesh, tokenId } = file
    await this.#write('host.json', { ...fieldsOf(credential), mesh, tokenId })
  }

  async saveService(service: ServiceName, credential: HeldCredential): Promise<void> {
    await this.#write(`service.${service}.json`, fieldsOf(credential))
  }

  async removeService(service: ServiceName): Promise<void> {
    await rm(join(this.#directory, `service.${service}.json`), { force: true })
  }

  async #open(): Promise<readonly string[]> {
    try {
      await mkdir(this.#directory, { recursive: true, mode: 0o700 })
      return await readdir(this.#directory)
    } catch (error) {
      throw unusable('write', this.#directory, error)
    }
  }

  async #loadHost(): Promise<Parsed<HostFile> | null> {
    const fields = await this.#read('host.json')
    if (fields === null) return null
    const mesh = parseMesh(fields['mesh'])
    if (!mesh.ok) return mesh
    const credential = credentialOf(fields, hostId(mesh.value.trustDomain, this.#host))
    if (!credential.ok) return credential
    const known = fields['tokenId']
    const tokenId = typeof known === 'string' ? known : null
    return { ok: true, value: { credential: credential.value, mesh: mesh.value, tokenId } }
  }

  /** Null where there is no such file; no fields at all where it is not JSON. */
  async #read(name: string): Promise<Fields | null> {
    let text: string
    try {
      text = await readFile(join(this.#directory, name), 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
      throw unusable('read', this.#directory, error)
    }
    const fields = parse(text)
    const written = fields['format']
    if (typeof written === 'number' && written > format) {
      throw new MeshError(
        `${join(this.#directory, name)} has format ${written}, and this version knows ${format} at most`,
        {
          code: 'state-newer',
          hint: 'a newer version wrote it: install that again, or enrol this host afresh',
        },
      )
    }
    return fields
  }

  async #write(name: string, fields: Fields): Promise<void> {
    try {
      await writeFileAtomic(join(this.#directory, name), `${JSON.stringify(fields)}\n`)
    } catch (error) {
      throw unusable('write', this.#directory, error)
    }
  }
}

function parse(text: string): Fields {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? (value as Fields) : {}
  } catch {
    return {}
  }
}

function fieldsOf(credential: HeldCredential): Fields {
  const { chainPem, keyPem, renewAtMs } = credential
  return { format, chainPem, keyPem, renewAtMs }
}

function credentialOf(fields: Fields, expected: SpiffeId): Parsed<HeldCredential> {
  const { chainPem, keyPem, renewAtMs } = fields
  if (fields['format'] !== format) {
    return { ok: false, problem: 'it is cut short, or of a format this version does not know' }
  }
  if (typeof chainPem !== 'string' || typeof keyPem !== 'string') {
    return { ok: false, problem: 'it lacks its key or certificate' }
  }
  const credential = readCredential(chainPem, keyPem, expected)
  if (!credential.ok) return credential
  // Without a usable time it is renewed at once.
  return {
    ok: true,
    value: { ...credential.value, renewAtMs: typeof renewAtMs === 'number' ? renewAtMs : 0 },
  }
}

function unusable(what: 'read' | 'write', directory: string, error: unknown): MeshError {
  return new MeshError(`cannot ${what} in ${directory}: ${messageOf(error)}`, {
    code: 'state-unusable',
    hint: 'the agent must run as the user that owns its state directory, with space on the disk',
    retry: true,
    cause: error,
  })
}
