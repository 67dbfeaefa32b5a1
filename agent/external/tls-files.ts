/**
 * Owns what stands in the files by which the agent speaks TLS to services outside: the roots they must
 * lead to, and the certificate and key it shows them. The files of one service are read and judged
 * together, again every so often, and what was good last stays while they are not.
 */

import { createPrivateKey, X509Certificate } from 'node:crypto'
import { createSecureContext } from 'node:tls'
import type { Clock, Timer } from '#shared/lifecycle/clock.ts'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { ExternalTls, TlsMaterial } from '#shared/model/external.ts'
import { readBounded } from './bounded-file.ts'

/** What it leans on. */
export interface TlsFilesParts {
  readonly clock: Clock
  /** Told whenever files were looked at. */
  readonly onLooked: () => void
  /** @default reads the file, a megabyte at most */
  readonly read?: (path: string) => Promise<string>
}

/** Settings. */
export interface TlsFilesSettings {
  /** From one look at the files to the next. @default 30000 */
  readonly everyMs?: number
}

/** What the files of a service hold; null until all of them were good together. */
export interface TlsState {
  readonly material: TlsMaterial | null
  /** Why the last look was in vain; empty where it was not. */
  readonly problem: string
  /** The key of the manifest that the problem is about; null where there is none. */
  readonly about: FileKey | null
}

/** The keys of `tls` that name files. */
export type FileKey = 'caFile' | 'certFile' | 'keyFile'
const fileKeys: readonly FileKey[] = ['caFile', 'certFile', 'keyFile']
const mostBytes = 1_048_576
const unread: TlsState = { material: null, problem: '', about: null }
const noFiles: TlsState = { material: {}, problem: '', about: null }

/** See the header. */
export class TlsFiles {
  readonly #parts: TlsFilesParts
  readonly #settings: TlsFilesSettings
  readonly #states = new Map<string, TlsState>()
  #wanted = new Map<string, ExternalTls>()
  /** Under way now. */
  readonly #looking = new Set<string>()
  #timer: Timer | null = null

  constructor(parts: TlsFilesParts, settings: TlsFilesSettings = {}) {
    this.#parts = parts
    this.#settings = settings
  }

  /** Reads what was not read yet, and forgets what nobody wants any more. */
  want(all: readonly ExternalTls[]): void {
    this.#wanted = new Map(
      all.flatMap((tls) => (keyOf(tls) === '' ? [] : [[keyOf(tls), tls] as const])),
    )
    for (const key of this.#states.keys()) if (!this.#wanted.has(key)) this.#states.delete(key)
    for (const [key, tls] of this.#wanted) if (!this.#states.has(key)) void this.#look(key, tls)
    if (this.#wanted.size === 0) this.stop()
    else {
      this.#timer ??= this.#parts.clock.every(this.#settings.everyMs ?? 30_000, () => {
        for (const [key, tls] of this.#wanted) void this.#look(key, tls)
      })
    }
  }

  /** What the files hold that `tls` names. */
  of(tls: ExternalTls): TlsState {
    const key = keyOf(tls)
    return key === '' ? noFiles : (this.#states.get(key) ?? unread)
  }

  /** Whether a first look is under way. */
  get isLooking(): boolean {
    return this.#wanted.keys().some((key) => !this.#states.has(key))
  }

  /** Looks no more. */
  stop(): void {
    this.#timer?.stop()
    this.#timer = null
    this.#wanted.clear()
  }

  async #look(key: string, tls: ExternalTls): Promise<void> {
    if (this.#looking.has(key)) return
    this.#looking.add(key)
    const before = this.#states.get(key)?.material ?? null
    const state = await this.#read(tls, before)
    this.#looking.delete(key)
    if (!this.#wanted.has(key)) return
    this.#states.set(key, state)
    this.#parts.onLooked()
  }

  async #read(tls: ExternalTls, before: TlsMaterial | null): Promise<TlsState> {
    const texts: Partial<Record<FileKey, string>> = {}
    const { read = (path: string) => readBounded(path, mostBytes) } = this.#parts
    for (const key of fileKeys) {
      const path = tls[key]
      if (path === undefined) continue
      try {
        texts[key] = await read(path)
      } catch (error) {
        const problem = `${key} ${path} cannot be read: ${messageOf(error)}`
        return { material: before, problem, about: key }
      }
    }
    const { caFile: caPem, certFile: certPem, keyFile: keyPem } = texts
    const isSame =
      before?.caPem === caPem && before?.certPem === certPem && before?.keyPem === keyPem
    if (before !== null && isSame) return { material: before, problem: '', about: null }
    const material: TlsMaterial = {
      ...(caPem === undefined ? {} : { caPem }),
      ...(certPem === undefined ? {} : { certPem }),
      ...(keyPem === undefined ? {} : { keyPem }),
    }
    return { material, problem: '', about: null, ...problemOf(tls, material, before) }
  }
}

/** Names the files, and nothing where there are none. */
function keyOf(tls: ExternalTls): string {
  const paths = fileKeys.map((key) => tls[key] ?? '')
  return paths.every((path) => path === '') ? '' : JSON.stringify(paths)
}

const certificate =
  /-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----[^-]*-----END (?:TRUSTED |X509 )?CERTIFICATE-----/g

/** What is wrong with the contents, and what counts instead; nothing where workers can dial with them. */
function problemOf(
  tls: ExternalTls,
  { caPem, certPem, keyPem }: TlsMaterial,
  before: TlsMaterial | null,
): Partial<TlsState> {
  const wrong = (about: FileKey, problem: string): TlsState => ({
    material: before,
    problem,
    about,
  })
  for (const [key, pem] of [['caFile', caPem] as const, ['certFile', certPem] as const]) {
    if (pem === undefined) continue
    const what = `${key} ${tls[key] ?? ''}`
    const blocks = pem.match(certificate) ?? []
    if (blocks.length === 0) return wrong(key, `${what} holds no certificate in PEM`)
    // OpenSSL leaves out what follows one that it cannot read.
    for (const [index, block] of blocks.entries()) {
      try {
        void new X509Certificate(block)
      } catch (error) {
        return wrong(key, `${what}: certificate ${index + 1} cannot be read: ${messageOf(error)}`)
      }
    }
  }
  if (certPem === undefined || keyPem === undefined) return {}
  const pair = `certFile ${tls.certFile ?? ''} and keyFile ${tls.keyFile ?? ''}`
  try {
    if (!new X509Certificate(certPem).checkPrivateKey(createPrivateKey(keyPem)))
      return wrong('keyFile', `${pair} do not belong together: the key is not the certificate’s`)
    createSecureContext({ cert: certPem, key: keyPem })
    return {}
  } catch (error) {
    // What it says names no bytes of the key.
    return wrong('keyFile', `${pair} cannot be used: ${messageOf(error)}`)
  }
}
