/**
 * Owns what the agent's boot config is once it has been read: frozen, handed on in slices; nothing here
 * changes while the agent runs. Its keys and defaults are in `config-schema.ts`, its reading in
 * `config-reader.ts`.
 */

import type { LogLevel } from '#shared/logging/logger.ts'
import type { HostName } from '#shared/model/names.ts'

/** An address to listen on. */
export interface ListenAddress {
  /** An IP address of this host, or all of them. */
  readonly address: string
  /** 0 takes any free port. */
  readonly port: number
}

/** The directories of an agent. */
export interface AgentPaths {
  readonly manifests: string
  readonly policies: string
  readonly state: string
  readonly run: string
}

/** Where an agent listens. */
export interface AgentListen {
  readonly tunnel: ListenAddress
  readonly forwardProxy: ListenAddress
  readonly applications: ListenAddress
  readonly metrics: ListenAddress
  readonly dns: ListenAddress
  /** Address of explicit listeners; their ports stand in the manifests. */
  readonly explicit: string
}

/** Whether and which connections of local programs are led into the mesh by the kernel. */
export interface CaptureConfig {
  /** Null: on where the host allows it. */
  readonly wish: 'on' | 'off' | null
  /** The first of 3,000 ports at which captured connections arrive. */
  readonly firstPort: number
  /** What known callers may reach outside the mesh. */
  readonly egress: 'allow-any' | 'registry-only'
  readonly exclude: {
    readonly ports: readonly number[]
    /** Addresses or ranges, `10.0.0.0/8`. */
    readonly addresses: readonly string[]
    /** Names or numbers. */
    readonly users: readonly string[]
  }
}

/** What HTTP messages may take, in size and in time. */
export interface AgentLimits {
  readonly headBytes: number
  readonly headFields: number
  readonly headMs: number
  readonly bodyIdleMs: number
  readonly responseIdleMs: number
  readonly idleMs: number
}

/** The agent's boot config. */
export interface AgentConfig {
  readonly host: HostName
  readonly zone: string
  /** IP address other hosts reach this one at. */
  readonly address: string
  /** Where controllers are, `host:port`; at least one. */
  readonly controllers: readonly [string, ...(readonly string[])]
  /** File that holds the join token; needed only until the host has enrolled. */
  readonly joinTokenFile: string | null
  readonly paths: AgentPaths
  readonly listen: AgentListen
  /** Globs of services that local users may register beside the one of their own name. */
  readonly users: Readonly<Record<string, readonly string[]>>
  /** Source address of dials to local instances. */
  readonly inboundSource: string
  readonly accessLog: 'on' | 'errors' | 'off'
  readonly capture: CaptureConfig
  readonly log: { readonly level: LogLevel }
  /** Connections of callers open at once on this host, of all listeners together. */
  readonly maxConnections: number
  /** Proxy workers of this host. */
  readonly workers: number
  /** How programs of this host come to ask the mesh's DNS. */
  readonly systemDns: 'off' | 'auto' | 'resolved' | 'resolv-conf'
  /** How long a stopping worker waits for open requests. */
  readonly drainMs: number
  /** How long workers that an upgrade has replaced may keep their connections. */
  readonly retireMs: number
  readonly limits: AgentLimits
  /** Most instances of a mesh that this host follows whole. */
  readonly wholeMesh: number
}
