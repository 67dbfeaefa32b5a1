/**
 * Owns one host of the demo: its directories, its config, its manifests, and the programs that run
 * on it. What they say to each other is the mesh's matter.
 */

import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { AdminSocket } from '#cli/client/admin-socket.ts'
import { Child, type Ending } from './child.ts'
import type { Machine } from './machine.ts'
import type { Place } from './place.ts'

/** The ports of a host, the same on every host. */
export const ports = {
  tunnel: 15008,
  forwardProxy: 15002,
  applications: 15004,
  metrics: 15020,
} as const

/** Settings of a host. */
export interface DemoHostSettings {
  readonly directory: string
  /** `host:port` of the controller's API. */
  readonly controller: string
  /** The agent's main file. */
  readonly agent: string
  /** Keys of the agent's config that differ from the demo's. */
  readonly agentConfig?: Readonly<Record<string, unknown>>
  /** What stands before the agent's command, for an agent that runs in a room of its own. */
  readonly agentIn?: readonly string[]
}

/** An access line of a worker, as far as the demo reads it. */
export interface AccessLine {
  readonly msg: string
  /** `<generation>-<index>`. */
  readonly worker: string
  readonly direction: string
  readonly source: string | null
  readonly destination: string | null
  readonly host: string | null
  readonly instance: string | null
  readonly status: number
  readonly reason: string
  readonly mtls: boolean
  readonly rule: { readonly rule: string; readonly file: string; readonly line: number } | null
}

/** A host. */
export class DemoHost {
  readonly name: string
  readonly place: Place
  readonly admin: AdminSocket
  readonly #machine: Machine
  readonly #settings: DemoHostSettings
  readonly #children: Child[] = []
  #agent: Child | null = null

  constructor(
    parts: { readonly machine: Machine; readonly place: Place },
    settings: DemoHostSettings,
  ) {
    this.name = parts.place.name
    this.place = parts.place
    this.#machine = parts.machine
    this.#settings = settings
    for (const name of ['mesh.d', 'state', 'run', 'services'])
      mkdirSync(this.path(name), { recursive: true })
    writeFileSync(this.path('agent.json'), `${JSON.stringify(this.#config(), null, 2)}\n`)
    this.admin = new AdminSocket({ socketPath: this.path('run/agent.sock') })
  }

  /** A path in this host's directory. */
  path(...parts: readonly string[]): string {
    return join(this.#settings.directory, ...parts)
  }

  /** Starts a program on this host. */
  start(
    name: string,
    command: readonly [string, ...string[]],
    onLine?: (line: string) => void,
  ): Child {
    const parts = { place: this.place, machine: this.#machine }
    const logFile = this.path(`${name}.log`)
    const child = new Child(parts, {
      name: `${name} on ${this.name}`,
      command,
      logFile,
      ...(onLine === undefined ? {} : { onLine }),
    })
    this.#children.push(child)
    return child
  }

  /** Starts the agent, with the token it joins with where it has not joined yet. */
  startAgent(token?: string): Child {
    if (token !== undefined) writeFileSync(this.path('join-token'), token, { mode: 0o600 })
    const { agent, agentIn = [] } = this.#settings
    const words = [agent, 'supervise', '--config', this.path('agent.json')]
    const [first = '', ...rest] = [...agentIn, this.#machine.node, ...words]
    this.#agent = this.start('agent', [first, ...rest])
    return this.#agent
  }

  /** The agent's supervisor, once started. */
  get agent(): Child | null {
    return this.#agent
  }

  /** Ends the agent's supervisor by a signal, and waits until it has ended. */
  async endAgent(signal: NodeJS.Signals): Promise<Ending | null> {
    const agent = this.#agent
    if (agent === null) return null
    this.#agent = null
    agent.signal(signal)
    const ending = await agent.ended
    this.#children.splice(this.#children.indexOf(agent), 1)
    return ending
  }

  /** Drops a manifest, whole or not at all. */
  dropManifest(name: string, manifest: Readonly<Record<string, unknown>>): void {
    const path = this.path('mesh.d', `${name}.json`)
    writeFileSync(`${path}.tmp`, `${JSON.stringify(manifest)}\n`)
    renameSync(`${path}.tmp`, path)
  }

  /** Takes a manifest away. */
  removeManifest(name: string): void {
    rmSync(this.path('mesh.d', `${name}.json`), { force: true })
  }

  /** The access lines among the last `limit` lines of the agent's log. */
  accessLines(limit: number): AccessLine[] {
    return readFileSync(this.path('agent.log'), 'utf8')
      .split('\n')
      .slice(-limit - 1, -1)
      .filter((line) => line.includes('"access"'))
      .map((line) => JSON.parse(line) as AccessLine)
  }

  /** Ends every program, the last one started first. */
  async stop(graceMs: number): Promise<void> {
    await Promise.all(this.#children.toReversed().map((child) => child.stop(graceMs)))
  }

  /** Kills every program. */
  kill(): void {
    for (const child of this.#children) child.kill()
  }

  #config(): Readonly<Record<string, unknown>> {
    const { address, local, name, isOwnNetwork } = this.place
    return {
      host: name,
      address,
      controller: this.#settings.controller,
      joinTokenFile: this.path('join-token'),
      paths: {
        manifests: this.path('mesh.d'),
        policies: this.path('policies.d'),
        state: this.path('state'),
        run: this.path('run'),
      },
      listen: {
        tunnel: `${address}:${ports.tunnel}`,
        forwardProxy: `${local}:${ports.forwardProxy}`,
        applications: `${local}:${ports.applications}`,
        metrics: `${address}:${ports.metrics}`,
        explicit: local,
        // Where it harms nobody, names resolve as they do on a real host.
        ...(isOwnNetwork ? { dns: '127.0.0.1:53' } : {}),
      },
      // The machine's own network is not the demo's to change.
      ...(isOwnNetwork ? {} : { capture: 'off' }),
      drainMs: 1000,
      ...this.#settings.agentConfig,
    }
  }
}
