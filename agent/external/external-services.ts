/**
 * Owns the external services of this host as workers take them: from manifests, the addresses that
 * their names have now, and what stands in files. What cannot be had keeps its last good state, and the
 * reason is told. It connects to nobody.
 */

import { isIPv6 } from 'node:net'
import type { Clock, Timer } from '#shared/lifecycle/clock.ts'
import type { Logger } from '#shared/logging/logger.ts'
import type { ExternalReport } from '#shared/model/admin-services.ts'
import {
  isNoOutside,
  type External,
  type ExternalEndpoint,
  type ExternalView,
} from '#shared/model/external.ts'
import type { Manifest } from '#shared/model/manifest.ts'
import type { InstanceId } from '#shared/model/names.ts'
import { parseInterceptTarget } from '#shared/schema/manifest-capture.ts'
import { TlsFiles } from './tls-files.ts'

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
  readonly read?: (path: string) => Promise<string>
}

/** Settings. */
export interface ExternalServicesSettings {
  /** From one look at files, and at what this host's addresses are, to the next. @default 30000 */
  readonly everyMs?: number
}

type ExternalManifest = Manifest & { readonly external: External }

/** What is wrong, and where in the manifest stands what it is about ("line:column"). */
interface Trouble {
  readonly text: string
  readonly place: string
}

const noTrouble = { problem: '', about: null } as const
/** A name with more addresses than this is called at the first of them. */
const mostEndpoints = 32

/** See the header. */
export class ExternalServices {
  readonly #parts: ExternalServicesParts
  readonly #settings: ExternalServicesSettings
  #manifests: readonly ExternalManifest[] = []
  #views: readonly ExternalView[] = []
  #shown = '[]'
  readonly #files: TlsFiles
  #timer: Timer | null = null
  #told = new Map<string, string>()
  #isStopped = false

  constructor(parts: ExternalServicesParts, settings: ExternalServicesSettings = {}) {
    this.#parts = parts
    this.#settings = settings
    this.#files = new TlsFiles({ ...parts, onLooked: () => this.refresh() }, settings)
  }

  /** The same object until one changes. */
  get views(): readonly ExternalView[] {
    return this.#views
  }

  /** Whether something of what was asked for last is still to come. */
  get isLooking(): boolean {
    return this.#manifests.length > 0 && (this.#parts.names.isLooking || this.#files.isLooking)
  }

  /** Takes over the manifests in force. */
  setManifests(manifests: readonly Manifest[]): void {
    this.#manifests = manifests.filter((one): one is ExternalManifest => one.external !== undefined)
    this.#files.want(this.#manifests.flatMap(({ external }) => external.tls ?? []))
    this.#timer ??=
      this.#manifests.length === 0
        ? null
        : this.#parts.clock.every(this.#settings.everyMs ?? 30_000, () => this.refresh())
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
        problems: this.#problemsOf(manifest).map(({ text }) => text),
      }
    })
  }

  /** What is wrong with a service now, each with its place in the manifest. */
  warningsOf(service: string): readonly string[] {
    const manifest = this.#manifests.find((one) => one.service === service)
    if (manifest === undefined) return []
    return this.#problemsOf(manifest).map(({ text, place }) =>
      place === '' ? text : `${manifest.file}:${place}: ${text}`,
    )
  }

  /** Makes the views anew. */
  refresh(): void {
    if (this.#isStopped) return
    const views = this.#manifests
      .map((manifest) => this.#viewOf(manifest))
      .toSorted((a, b) => (a.name < b.name ? -1 : 1))
    const shown = JSON.stringify(views)
    const isNews = shown !== this.#shown
    if (isNews) this.#views = views
    this.#shown = shown
    const isTold = this.#tell()
    if (isNews || isTold) this.#parts.onChange()
  }

  /** Looks no more. */
  stop(): void {
    this.#timer?.stop()
    this.#files.stop()
    this.#manifests = []
    this.#isStopped = true
  }

  #viewOf({ service, protocol, external, intercept, onAgentDown }: ExternalManifest): ExternalView {
    const { port, tls, connectTimeoutMs } = external
    const material = tls === null ? {} : this.#files.of(tls).material
    const isNamed = tls?.serverName !== undefined
    return {
      name: service,
      protocol,
      port,
      // Without the roots it was told to trust, nobody is proven: it is called at no address.
      endpoints: material === null ? [] : this.#endpointsOf(external),
      tls:
        tls === null ? null : { ...(isNamed ? { serverName: tls.serverName } : {}), ...material },
      names: namesOf(external, intercept),
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
        const id = address.toLowerCase().replaceAll(/[^0-9a-z]/g, '-')
        found.set(address, { id: `at-${id}` as InstanceId, address, said })
      }
    }
    return [...found.values()].slice(0, mostEndpoints)
  }

  #problemsOf({ external, service }: ExternalManifest): readonly Trouble[] {
    const { addresses, tls, places } = external
    const { problem: files, about } = tls === null ? noTrouble : this.#files.of(tls)
    const looks = addresses.flatMap((name) => {
      const problem = this.#parts.names.problemOf(name)
      const text = `${name} does not resolve: ${problem}`
      return problem === '' ? [] : [{ text, place: places[name] ?? '' }]
    })
    const view = this.#views.find(({ name }) => name === service)
    const isNowhere = view?.endpoints.length === 0 && !this.isLooking
    const text = 'none of its addresses is one of another machine'
    const place = places[addresses[0] ?? ''] ?? ''
    const said = [
      ...(files === '' ? [] : [{ text: files, place: places[about ?? ''] ?? '' }]),
      ...looks,
    ]
    return said.length === 0 && isNowhere ? [{ text, place }] : said
  }

  /** Each problem once, and its end; answers whether there was any news. */
  #tell(): boolean {
    const { logger } = this.#parts
    const before = this.#told
    const now = new Map<string, string>()
    let isNews = false
    for (const manifest of this.#manifests) {
      const { service } = manifest
      const problem = this.#problemsOf(manifest)
        .map(({ text }) => text)
        .join('; ')
      if (problem !== '') now.set(service, problem)
      if (problem === (before.get(service) ?? '')) continue
      isNews = true
      if (problem !== '') logger.warn({ service, problem }, 'external service: in trouble')
      else logger.info({ service }, 'external service: in order again')
    }
    this.#told = now
    return isNews
  }
}

/** Where its addresses and its certificate lead, and what programs call it by. */
function namesOf({ addresses, tls }: External, intercept: readonly string[]): readonly string[] {
  const said = intercept.map((text) => parseInterceptTarget(text)?.host ?? '')
  const proven = tls?.serverName?.toLowerCase() ?? ''
  return [...new Set([...addresses, proven, ...said])].filter((name) => name !== '')
}
