/**
 * Owns the external services of this host as workers take them: from manifests, the addresses that
 * their names have now, and the roots that stand in files. What cannot be had keeps its last good state,
 * and the reason is told. It connects to nobody.
 */

import { isIPv6 } from 'node:net'
import { readFile } from 'node:fs/promises'
import { X509Certificate } from 'node:crypto'
import type { Clock, Timer } from '#shared/lifecycle/clock.ts'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { ExternalReport } from '#shared/model/admin.ts'
import {
  isNoOutside,
  type External,
  type ExternalEndpoint,
  type ExternalView,
} from '#shared/model/external.ts'
import type { Manifest } from '#shared/model/manifest.ts'
import type { InstanceId } from '#shared/model/names.ts'

/** What it leans on. */
export interface ExternalServicesParts {
  readonly clock: Clock
  readonly logger: Logger
  /** Told by the maker to call `refresh` when a name leads elsewhere; `NameTargets` fits. */
  readonly names: {
    resolve(target: string): readonly { readonly address: string }[]
    problemOf(name: string): string
    readonly isLooking: boolean
  }
  /** Whether an address is this host's own, or one of the mesh's virtual IPs. */
  readonly isHere: (address: string) => boolean
  /** Told of every change. */
  readonly onChange: () => void
  /** @default reads the file */
  readonly readCa?: (path: string) => Promise<string>
}

/** Settings. */
export interface ExternalServicesSettings {
  /** From one look at the files of roots to the next. @default 30000 */
  readonly everyMs?: number
}

type ExternalManifest = Manifest & { readonly external: External }

/** The most that a file of roots may hold. */
const mostCaBytes = 1_048_576
/** A name with more addresses than this is called at the first of them. */
const mostEndpoints = 32

/** See the header. */
export class ExternalServices {
  readonly #parts: ExternalServicesParts
  readonly #settings: ExternalServicesSettings
  #manifests: readonly ExternalManifest[] = []
  #views: readonly ExternalView[] = []
  #shown = '[]'
  readonly #roots = new Map<string, { readonly pem: string | null; readonly problem: string }>()
  #reading = 0
  #timer: Timer | null = null
  #told = new Map<string, string>()

  constructor(parts: ExternalServicesParts, settings: ExternalServicesSettings = {}) {
    this.#parts = parts
    this.#settings = settings
  }

  /** The same object until one changes. */
  get views(): readonly ExternalView[] {
    return this.#views
  }

  /** Whether something of what was asked for last is still to come. */
  get isLooking(): boolean {
    return this.#manifests.length > 0 && (this.#parts.names.isLooking || this.#reading > 0)
  }

  /** Takes over the manifests in force. */
  setManifests(manifests: readonly Manifest[]): void {
    this.#manifests = manifests.filter((one): one is ExternalManifest => one.external !== undefined)
    for (const { external } of this.#manifests) {
      const file = external.tls?.caFile
      if (file !== undefined && !this.#roots.has(file)) void this.#read(file)
    }
    this.#timer ??=
      this.#manifests.length === 0
        ? null
        : this.#parts.clock.every(this.#settings.everyMs ?? 30_000, () => {
            for (const file of this.#roots.keys()) void this.#read(file)
          })
    this.refresh()
  }

  /** What is told of them. */
  report(): readonly ExternalReport[] {
    return this.#manifests.map((manifest) => {
      const { service, protocol, external, file, intercept } = manifest
      const { addresses, port, tls } = external
      const endpoints = this.#views.find(({ name }) => name === service)?.endpoints ?? []
      return {
        service,
        file,
        protocol,
        addresses,
        port,
        tls: tls === null ? 'pass' : 'originate',
        intercept,
        endpoints: endpoints.map(({ address, said }) => ({ address, said })),
        problems: this.#problemsOf(manifest),
      }
    })
  }

  /** Makes the views anew. */
  refresh(): void {
    const views = this.#manifests
      .map((manifest) => this.#viewOf(manifest))
      .toSorted((a, b) => (a.name < b.name ? -1 : 1))
    const shown = JSON.stringify(views)
    const isNews = shown !== this.#shown
    if (isNews) this.#views = views
    this.#shown = shown
    this.#tell()
    if (isNews) this.#parts.onChange()
  }

  /** Looks no more. */
  stop(): void {
    this.#timer?.stop()
    this.#manifests = []
  }

  #viewOf({ service, protocol, external, intercept, onAgentDown }: ExternalManifest): ExternalView {
    const { addresses, port, tls, connectTimeoutMs } = external
    const caPem = tls?.caFile === undefined ? undefined : this.#roots.get(tls.caFile)?.pem
    // Without the roots it was told to trust, nobody is proven: it is called at no address.
    const isUnproven = caPem === null || (tls?.caFile !== undefined && caPem === undefined)
    const [first = ''] = addresses
    const name = tls?.serverName ?? (isIPv6(first) ? `[${first}]` : first)
    return {
      name: service,
      protocol,
      port,
      endpoints: isUnproven ? [] : this.#endpointsOf(external),
      tls:
        tls === null
          ? null
          : {
              ...(tls.serverName === undefined ? {} : { serverName: tls.serverName }),
              ...(caPem === undefined || caPem === null ? {} : { caPem }),
            },
      authority: port === (tls === null ? 80 : 443) ? name : `${name}:${port}`,
      connectTimeoutMs,
      intercept,
      onAgentDown,
    }
  }

  #endpointsOf({ addresses }: Pick<External, 'addresses'>): readonly ExternalEndpoint[] {
    const found = new Map<string, ExternalEndpoint>()
    for (const said of addresses) {
      const target = isIPv6(said) ? `[${said}]:1` : `${said}:1`
      for (const { address } of this.#parts.names.resolve(target)) {
        // Whoever answers for a name outside could else have the agent call what only this host may.
        if (isNoOutside(address) || this.#parts.isHere(address) || found.has(address)) continue
        const id = address.toLowerCase().replaceAll(/[^0-9a-z]+/g, '-')
        found.set(address, { id: `at-${id}` as InstanceId, address, said })
      }
    }
    return [...found.values()].slice(0, mostEndpoints)
  }

  #problemsOf({ external, service }: ExternalManifest): readonly string[] {
    const { addresses, tls } = external
    const roots = tls?.caFile === undefined ? '' : (this.#roots.get(tls.caFile)?.problem ?? '')
    const looks = addresses.flatMap((name) => {
      const problem = this.#parts.names.problemOf(name)
      return problem === '' ? [] : `${name} does not resolve: ${problem}`
    })
    const view = this.#views.find(({ name }) => name === service)
    const isNowhere = view?.endpoints.length === 0 && !this.isLooking
    const none = 'none of its addresses is one of another machine'
    const said = [...(roots === '' ? [] : [roots]), ...looks]
    return said.length === 0 && isNowhere ? [none] : said
  }

  /** Each problem once, and its end. */
  #tell(): void {
    const { logger } = this.#parts
    const now = new Map<string, string>()
    for (const manifest of this.#manifests) {
      const { service } = manifest
      const problem = this.#problemsOf(manifest).join('; ')
      if (problem !== '') now.set(service, problem)
      const before = this.#told.get(service) ?? ''
      if (problem === before) continue
      if (problem !== '') logger.warn({ service, problem }, 'external service: in trouble')
      else logger.info({ service }, 'external service: in order again')
    }
    this.#told = now
  }

  async #read(file: string): Promise<void> {
    const before = this.#roots.get(file)
    if (before === undefined) this.#roots.set(file, { pem: null, problem: '' })
    this.#reading++
    try {
      const pem = await (this.#parts.readCa ?? readRoots)(file)
      this.#roots.set(file, { pem, problem: '' })
    } catch (error) {
      const problem = `its roots cannot be read (caFile ${file}): ${messageOf(error)}`
      this.#roots.set(file, { pem: before?.pem ?? null, problem })
    }
    this.#reading--
    this.refresh()
  }
}

async function readRoots(path: string): Promise<string> {
  const pem = await readFile(path, 'latin1')
  if (pem.length > mostCaBytes) throw new Error(`it has more than ${mostCaBytes} bytes`)
  // Says what is wrong with the first, if anything.
  void new X509Certificate(pem)
  return pem
}
