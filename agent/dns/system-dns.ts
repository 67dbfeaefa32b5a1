/**
 * Owns how programs on this host come to ask the mesh's DNS: a drop-in by which systemd-resolved
 * sends us `mesh` alone, or our name server first in `/etc/resolv.conf`. It repairs what others
 * overwrite, and leaves every file as it was. Where it may not write, it says so and changes nothing.
 */

import { lstat, mkdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Clock } from '#agent/platform.ts'
import type { Timer } from '#shared/lifecycle/clock.ts'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { Logger } from '#shared/logging/logger.ts'
import { resolvedDropIn, resolvedDropInPath, resolvedStub } from '#shared/model/resolved-drop-in.ts'
import { nameServersIn, withMesh, withoutMesh } from './resolv-conf.ts'

/** Which way is taken; `auto` takes systemd-resolved where programs ask it. */
export type SystemDnsMode = 'auto' | 'resolved' | 'resolv-conf' | 'off'

/** How it stands. */
export type SystemDnsState =
  | { readonly kind: 'off' }
  | { readonly kind: 'resolved' }
  | { readonly kind: 'resolv-conf' }
  /** Programs do not find `.mesh` names by themselves. */
  | { readonly kind: 'failed'; readonly problem: string }

/** Collaborators. */
export interface SystemDnsParts {
  readonly clock: Clock
  readonly logger: Logger
  /** Makes systemd-resolved read its files again; rejects with what is wrong. */
  readonly reloadResolved: () => Promise<void>
}

/** Settings. */
export interface SystemDnsSettings {
  readonly mode: SystemDnsMode
  /** Where the mesh's DNS listens for systemd-resolved. */
  readonly server: { readonly address: string; readonly port: number }
  /** Where it listens on port 53, which is the only one resolv.conf knows; null where it does not. */
  readonly stubAddress: string | null
  /** @default '/etc/resolv.conf' */
  readonly resolvConf?: string
  /** @default '/etc/systemd/resolved.conf.d/hostmesh.conf' */
  readonly dropIn?: string
  /** Resolvers that systemd-resolved itself asks. @default '/run/systemd/resolve/resolv.conf' */
  readonly resolvedServers?: string
  /** How often it is looked whether others overwrote it. @default 2000 */
  readonly checkMs?: number
}

/** See the header. */
export class SystemDns {
  readonly #parts: SystemDnsParts
  readonly #settings: Required<SystemDnsSettings>
  #state: SystemDnsState = { kind: 'off' }
  #servers: readonly string[] = []
  #checking: Timer | null = null
  #turn: Promise<void> = Promise.resolve()

  constructor(parts: SystemDnsParts, settings: SystemDnsSettings) {
    this.#parts = parts
    this.#settings = {
      resolvConf: '/etc/resolv.conf',
      dropIn: resolvedDropInPath,
      resolvedServers: '/run/systemd/resolve/resolv.conf',
      checkMs: 2000,
      ...settings,
    }
  }

  get state(): SystemDnsState {
    return this.#state
  }

  /** The system's resolvers, to which questions of others go on. */
  get servers(): readonly string[] {
    return this.#servers
  }

  /** Takes the way, and keeps it. Never rejects. */
  async start(): Promise<void> {
    if (this.#checking !== null) return
    this.#checking = this.#parts.clock.every(this.#settings.checkMs, () => void this.#next())
    await this.#next()
  }

  /** Leaves every file as it was. */
  async stop(): Promise<void> {
    if (this.#checking === null) return
    this.#checking.stop()
    this.#checking = null
    this.#turn = this.#turn.then(() => this.#leave())
    await this.#turn
  }

  #next(): Promise<void> {
    this.#turn = this.#turn.then(() => this.#check())
    return this.#turn
  }

  async #check(): Promise<void> {
    if (this.#checking === null) return
    const { mode, resolvConf } = this.#settings
    try {
      const text = await readOrEmpty(resolvConf)
      await this.#learnServers(text)
      if (mode === 'off') return
      const isResolved =
        mode === 'resolved' || (mode === 'auto' && nameServersIn(text)[0] === resolvedStub)
      this.#become(isResolved ? await this.#useResolved() : await this.#useResolvConf(text))
    } catch (error) {
      this.#become({ kind: 'failed', problem: messageOf(error) })
    }
  }

  async #learnServers(text: string): Promise<void> {
    const direct = nameServersIn(text)
    const isStub = direct[0] === resolvedStub
    const found = isStub ? nameServersIn(await readOrEmpty(this.#settings.resolvedServers)) : direct
    // Were systemd-resolved asked for what it asks the agent, the question would go round.
    this.#servers = found.filter((server) => server !== resolvedStub)
  }

  async #useResolved(): Promise<SystemDnsState> {
    const { dropIn, server } = this.#settings
    const wanted = resolvedDropIn(server)
    if ((await readOrEmpty(dropIn)) !== wanted) {
      await mkdir(dirname(dropIn), { recursive: true, mode: 0o755 })
      await writeFile(dropIn, wanted, { mode: 0o644 })
      await this.#parts.reloadResolved()
    }
    return { kind: 'resolved' }
  }

  async #useResolvConf(text: string): Promise<SystemDnsState> {
    const { resolvConf, stubAddress } = this.#settings
    if (stubAddress === null) {
      const problem = `${resolvConf} can name port 53 only, and this agent may not listen there`
      return { kind: 'failed', problem }
    }
    const wanted = withMesh(text, stubAddress)
    // In place: it may be a link, or a mount of its own, which a rename would break.
    if (wanted !== text) await writeFile(resolvConf, wanted)
    return { kind: 'resolv-conf' }
  }

  async #leave(): Promise<void> {
    const { dropIn, resolvConf } = this.#settings
    const { kind } = this.#state
    try {
      if (kind === 'resolved') {
        await rm(dropIn, { force: true })
        await rmdir(dirname(dropIn)).catch(() => {})
        await this.#parts.reloadResolved()
      }
      if (kind === 'resolv-conf') {
        const text = await readOrEmpty(resolvConf)
        const before = withoutMesh(text)
        if (before !== text) await writeFile(resolvConf, before)
      }
      this.#become({ kind: 'off' })
    } catch (error) {
      this.#become({ kind: 'failed', problem: messageOf(error) })
    }
  }

  #become(state: SystemDnsState): void {
    const before = this.#state
    this.#state = state
    if (before.kind === state.kind) return
    const { logger } = this.#parts
    if (state.kind === 'failed') {
      const hint =
        'let the agent write there, or point the system’s resolver at it and set systemDns to off'
      logger.warn({ problem: state.problem, hint }, `system DNS: ${before.kind} -> failed`)
    } else logger.info({}, `system DNS: ${before.kind} -> ${state.kind}`)
  }
}

async function readOrEmpty(path: string): Promise<string> {
  const found = await lstat(path).catch(() => null)
  return found === null ? '' : await readFile(path, 'utf8')
}
