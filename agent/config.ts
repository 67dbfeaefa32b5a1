/**
 * Owns the agent's boot config: its keys, defaults and rules beyond the schema. Read once, frozen,
 * handed on in slices; nothing here changes while the agent runs. Longer than most: one key after another.
 */

import { isIP } from 'node:net'
import { availableParallelism, networkInterfaces, hostname } from 'node:os'
import { Type } from '#shared/schema/type.ts'
import { parseHostName, type HostName } from '#shared/model/names.ts'
import { parseServiceGlobs } from '#shared/model/service-globs.ts'
import type { LogLevel } from '#shared/logging/logger.ts'
import { parseHostPort } from '#shared/rpc/host-port.ts'
import { workerSocketPath } from './workers/socket-path.ts'
import { readConfig, type ConfigReading, type ConfigSources } from '#shared/schema/config.ts'
import { parseHostAddress } from '#shared/schema/ip-address.ts'
import { joinPointer } from '#shared/schema/json-reader.ts'
import type { Report } from '#shared/schema/problem.ts'

/** What the variables of the agent's config start with. */
export const agentVariables = 'MESH_'

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

const text = (maxLength: number, description: string) =>
  Type.String({ minLength: 1, maxLength, description })
const closed = { additionalProperties: false }
const milliseconds = (usual: number, description: string) =>
  Type.Integer({
    minimum: 100,
    maximum: 86_400_000,
    description: `milliseconds ${description}`,
    default: usual,
  })

/** JSON Schema of the agent's config; checked against `docs/configuration.md` by a test. */
export const agentConfigSchema = Type.Object(
  {
    $schema: Type.Optional(text(1024, 'where editors find this schema')),
    host: Type.Optional(
      text(63, 'name of this host in the mesh; default: its host name up to the first dot'),
    ),
    zone: Type.String({ maxLength: 63, description: 'zone or rack of this host', default: '' }),
    address: Type.Optional(
      text(
        45,
        'IP address other hosts reach this one at; default: the first one that is not loopback',
      ),
    ),
    controller: text(
      2000,
      'where the controller is: "host:port"; of several, any or all, with commas between',
    ),
    joinTokenFile: Type.Optional(
      text(4096, 'file that holds the join token; needed until the host has enrolled'),
    ),
    paths: Type.Object(
      {
        manifests: Type.String({
          minLength: 1,
          maxLength: 4096,
          description: 'directory of the manifests',
          default: '/etc/mesh.d',
        }),
        policies: Type.String({
          minLength: 1,
          maxLength: 4096,
          description: 'directory of the policy files, root’s or the agent’s own',
          default: '/etc/mesh/policies.d',
        }),
        state: Type.String({
          minLength: 1,
          maxLength: 4096,
          description: 'directory of keys, certificates and the last view of the mesh',
          default: '/var/lib/mesh/agent',
        }),
        run: Type.String({
          minLength: 1,
          maxLength: 4096,
          description: 'directory of sockets and receipts',
          default: '/run/mesh/agent',
        }),
      },
      closed,
    ),
    listen: Type.Object(
      {
        tunnel: Type.String({
          maxLength: 60,
          description: 'where far agents connect, "address:port"',
          default: '0.0.0.0:15008',
        }),
        forwardProxy: Type.String({
          maxLength: 60,
          description: 'loopback "address:port" where local programs with http_proxy connect',
          default: '127.0.0.1:15002',
        }),
        applications: Type.String({
          maxLength: 60,
          description:
            'loopback "address:port" of the API for applications, beside http://agent.mesh/ where connections are captured',
          default: '127.0.0.1:15004',
        }),
        metrics: Type.String({
          maxLength: 60,
          description: 'where metrics and readiness are read, "address:port"',
          default: '0.0.0.0:15020',
        }),
        dns: Type.String({
          maxLength: 60,
          description:
            'loopback "address:port" where <service>.mesh is resolved while connections are captured',
          default: '127.0.0.1:15053',
        }),
        explicit: Type.String({
          maxLength: 45,
          description: 'loopback address on which the ports of upstreams are opened',
          default: '127.0.0.1',
        }),
      },
      closed,
    ),
    users: Type.Record(
      Type.String({ pattern: '^[A-Za-z_][A-Za-z0-9_.-]{0,63}$' }),
      Type.Array(
        Type.String({
          minLength: 1,
          maxLength: 63,
          description: 'a service name in which "*" may stand for any characters',
        }),
        { maxItems: 100, description: 'names of services, with "*" for any characters' },
      ),
      {
        additionalProperties: false,
        maxProperties: 1000,
        description:
          'services that local users may register beside the one of their own name: {"alice": ["web-*"]}',
        default: {},
      },
    ),
    inboundSource: Type.String({
      maxLength: 45,
      description: 'source address of connections to local services: loopback, but not 127.0.0.1',
      default: '127.0.0.6',
    }),
    accessLog: Type.Enum(['on', 'errors', 'off'], {
      description: 'which requests leave a line in the log',
      default: 'on',
    }),
    capture: Type.Optional(
      Type.Enum(['on', 'off'], {
        description:
          'whether the kernel leads connections to services into the mesh; default: on where the agent may change the network and nft is there',
      }),
    ),
    capturePorts: Type.Integer({
      minimum: 1024,
      maximum: 62_536,
      description: 'first of the 3000 ports at which captured connections arrive',
      default: 17_000,
    }),
    egress: Type.Enum(['allow-any', 'registry-only'], {
      description:
        'what services of this host may reach outside it: anything, or only what the mesh knows and captureExclude names',
      default: 'allow-any',
    }),
    captureExclude: Type.Object(
      {
        ports: Type.Array(Type.Integer({ minimum: 1, maximum: 65_535 }), {
          maxItems: 256,
          description: 'ports that are never captured, beside 22 and the mesh’s own',
          default: [],
        }),
        addresses: Type.Array(Type.String({ maxLength: 50 }), {
          maxItems: 256,
          description: 'IP addresses or ranges, "10.0.0.0/8", that are never captured',
          default: [],
        }),
        users: Type.Array(Type.String({ minLength: 1, maxLength: 33 }), {
          maxItems: 256,
          description: 'users, by name or number, whose connections are left alone',
          default: [],
        }),
      },
      closed,
    ),
    log: Type.Object(
      {
        level: Type.Enum(['trace', 'debug', 'info', 'warn', 'error', 'silent'], {
          description: 'least severe lines that are logged',
          default: 'info',
        }),
      },
      closed,
    ),
    maxConnections: Type.Integer({
      minimum: 1,
      maximum: 10_000_000,
      description: 'connections of callers open at once on this host; more are refused at once',
      default: 20_000,
    }),
    workers: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 64,
        description: 'proxy workers, which share all ports; default: one for 4 cores, 4 at most',
      }),
    ),
    systemDns: Type.Enum(['off', 'auto', 'resolved', 'resolv-conf'], {
      description:
        'how programs come to ask listen.dns: by a drop-in of systemd-resolved, by /etc/resolv.conf (port 53 only), or as you arrange it',
      default: 'off',
    }),
    drainMs: Type.Integer({
      minimum: 0,
      maximum: 86_400_000,
      description: 'milliseconds a stopping worker waits for open requests',
      default: 30_000,
    }),
    retireMs: Type.Integer({
      minimum: 0,
      maximum: 604_800_000,
      description: 'milliseconds workers that an upgrade has replaced may keep long connections',
      default: 86_400_000,
    }),
    wholeMesh: Type.Integer({
      minimum: 0,
      maximum: 1_000_000,
      description:
        'instances up to which the agent follows the whole mesh; of a larger one only the services this host uses',
      default: 10_000,
    }),
    limits: Type.Object(
      {
        headBytes: Type.Integer({
          minimum: 1024,
          maximum: 1_048_576,
          description: 'most bytes of the head of a request or response; past it 431, or 502',
          default: 65_536,
        }),
        headFields: Type.Integer({
          minimum: 10,
          maximum: 10_000,
          description: 'most header fields of a request or response; past it 431, or 502',
          default: 100,
        }),
        headMs: milliseconds(10_000, 'for the head of a request; past it 408'),
        bodyIdleMs: milliseconds(
          60_000,
          'between two pieces of the body of a request; past it 408',
        ),
        responseIdleMs: milliseconds(
          300_000,
          'until a response begins, and between two pieces of it; past it 504',
        ),
        idleMs: milliseconds(300_000, 'a kept-alive connection waits for the next request'),
      },
      closed,
    ),
  },
  { ...closed, $id: 'urn:hostmesh:agent-config:1', title: 'Hostmesh agent config' },
)

function controllerAddresses(
  value: string,
  report: Report,
): readonly [string, ...(readonly string[])] {
  const addresses = value.split(',').map((part) => {
    const controller = parseHostPort(part.trim())
    if (!controller.ok || controller.value.port === 0) {
      const message = controller.ok ? 'controller needs a port' : `controller ${controller.problem}`
      report('/controller', { rule: 'not-an-address', message })
    }
    return part.trim()
  })
  const [first = '', ...others] = addresses
  return [first, ...others]
}

/** What the machine says of itself. */
export interface MachineFacts {
  readonly hostname: string
  /** Null where the machine has no address but loopback. */
  readonly address: string | null
  /** Cores this process may use. */
  readonly cores: number
}

/** Asks the machine. */
export function machineFacts(): MachineFacts {
  const addresses = Object.values(networkInterfaces()).flatMap((list) => list ?? [])
  const outer = addresses.filter((entry) => !entry.internal && !entry.address.startsWith('fe80:'))
  const found = outer.find((entry) => entry.family === 'IPv4') ?? outer[0]
  return {
    hostname: hostname(),
    address: found?.address ?? null,
    cores: availableParallelism(),
  }
}

/** Reads the agent's config from its sources, reporting every fault together. */
export function readAgentConfig(
  sources: Omit<ConfigSources, 'prefix'>,
  machine: MachineFacts,
): ConfigReading<AgentConfig> {
  const all = { ...sources, prefix: agentVariables }
  return readConfig(agentConfigSchema, all, (raw, report): AgentConfig => {
    const host = parseHostName(raw.host ?? machine.hostname.split('.')[0]?.toLowerCase() ?? '')
    if (!host.ok) {
      const hint =
        raw.host === undefined ? 'the host name of the machine does not serve: set host' : ''
      report('/host', { rule: 'bad-name', message: host.problem, hint })
    }
    return {
      host: host.ok ? host.value : ('' as HostName),
      zone: raw.zone,
      address: ownAddress(raw.address ?? machine.address, report),
      controllers: controllerAddresses(raw.controller, report),
      joinTokenFile: raw.joinTokenFile ?? null,
      paths: {
        manifests: absolute(raw.paths.manifests, '/paths/manifests', report),
        policies: absolute(raw.paths.policies, '/paths/policies', report),
        state: absolute(raw.paths.state, '/paths/state', report),
        run: runDirectory(raw.paths.run, report),
      },
      listen: {
        tunnel: listenAddress(raw.listen.tunnel, '/listen/tunnel', report),
        forwardProxy: localListenAddress(raw.listen.forwardProxy, '/listen/forwardProxy', report),
        applications: localListenAddress(raw.listen.applications, '/listen/applications', report),
        metrics: listenAddress(raw.listen.metrics, '/listen/metrics', report),
        dns: localListenAddress(raw.listen.dns, '/listen/dns', report),
        explicit: loopback(raw.listen.explicit, '/listen/explicit', report),
      },
      users: userServices(raw.users, report),
      inboundSource: inboundSource(raw.inboundSource, report),
      accessLog: raw.accessLog,
      capture: {
        wish: raw.capture ?? null,
        firstPort: raw.capturePorts,
        egress: egressOf(raw, report),
        exclude: {
          ...raw.captureExclude,
          addresses: excludedAddresses(raw.captureExclude.addresses, report),
        },
      },
      log: { level: raw.log.level },
      maxConnections: raw.maxConnections,
      workers: workerCount(raw.workers ?? null, raw.listen, machine, report),
      systemDns: raw.systemDns,
      drainMs: raw.drainMs,
      retireMs: raw.retireMs,
      limits: raw.limits,
      wholeMesh: raw.wholeMesh,
    }
  })
}

/** Nobody is confined by rules that are not there. */
function egressOf(
  {
    capture,
    egress,
  }: { readonly capture?: 'on' | 'off'; readonly egress: CaptureConfig['egress'] },
  report: Report,
): CaptureConfig['egress'] {
  if (egress === 'registry-only' && capture === 'off') {
    report('/egress', {
      rule: 'needs-capture',
      message: 'egress cannot be registry-only while capture is off',
      hint: 'remove "capture": "off", or set egress to allow-any',
    })
  }
  return egress
}

function userServices(
  users: Readonly<Record<string, readonly string[]>>,
  report: Report,
): Readonly<Record<string, readonly string[]>> {
  for (const [user, globs] of Object.entries(users)) {
    const parsed = parseServiceGlobs(globs)
    if (parsed.ok) continue
    report(joinPointer('/users', user), { rule: 'bad-name', message: parsed.problem })
  }
  return users
}

/** Workers share their ports, so each must know which: they cannot take just any. */
function workerCount(
  wanted: number | null,
  listen: { readonly tunnel: string; readonly forwardProxy: string },
  machine: MachineFacts,
  report: Report,
): number {
  const isShareable = !listen.tunnel.endsWith(':0') && !listen.forwardProxy.endsWith(':0')
  if (wanted !== null && wanted > 1 && !isShareable) {
    report('/workers', {
      rule: 'port-not-shared',
      message: `${wanted} workers cannot share a port that is chosen freely`,
      hint: 'give listen.tunnel and listen.forwardProxy a port each, or set workers to 1',
    })
  }
  return wanted ?? (isShareable ? Math.min(4, Math.ceil(machine.cores / 4)) : 1)
}

function excludedAddresses(texts: readonly string[], report: Report): readonly string[] {
  for (const [index, text] of texts.entries()) {
    const [, address = '', length = ''] = /^([0-9A-Fa-f.:]+)(?:\/([0-9]{1,3}))?$/.exec(text) ?? []
    const family = isIP(address)
    if (family !== 0 && Number(length) <= (family === 4 ? 32 : 128)) continue
    report(`/captureExclude/addresses/${index}`, {
      rule: 'not-an-address',
      message: `${JSON.stringify(text)} is neither an IP address nor a range of them`,
      hint: 'as in "10.0.0.5" or "10.0.0.0/8"',
    })
  }
  return texts
}

function ownAddress(address: string | null, report: Report): string {
  if (address === null) {
    report('/address', {
      rule: 'missing-key',
      message: 'address is missing, and this machine has none but loopback',
      hint: 'set address to the IP address other hosts reach this one at',
    })
    return ''
  }
  const parsed = parseHostAddress(address)
  if (parsed.ok) return parsed.value
  report('/address', {
    rule: 'not-an-address',
    message: `address ${parsed.problem}`,
    hint: 'set the IPv4 or IPv6 address other hosts reach this one at, without a scope',
  })
  return ''
}

function listenAddress(value: string, pointer: string, report: Report): ListenAddress {
  const parsed = parseHostPort(value)
  if (parsed.ok && isIP(parsed.value.host) !== 0) {
    return { address: parsed.value.host, port: parsed.value.port }
  }
  const name = pointer.slice(1).replace('/', '.')
  report(pointer, {
    rule: 'not-an-address',
    message: `${name} ${JSON.stringify(value)} must read <IP address>:<port>`,
    hint: 'IPv6 stands in brackets: "[::1]:15008"',
  })
  return { address: '', port: 0 }
}

/** The forward proxy asks nobody who they are: whoever reaches it speaks for this host. */
function localListenAddress(value: string, pointer: string, report: Report): ListenAddress {
  const listen = listenAddress(value, pointer, report)
  if (listen.address !== '') loopback(listen.address, pointer, report)
  return listen
}

function loopback(value: string, pointer: string, report: Report): string {
  if (isIP(value) === 0 || !(value.startsWith('127.') || value === '::1')) {
    const name = pointer.slice(1).replace('/', '.')
    report(pointer, {
      rule: 'not-loopback',
      message: `${name} ${JSON.stringify(value)} is not a loopback address`,
      hint: 'whoever reaches it speaks for this host, so it must not leave the host',
    })
  }
  return value
}

function inboundSource(value: string, report: Report): string {
  if (value === '127.0.0.1' || value === '::1') {
    report('/inboundSource', {
      rule: 'trusted-source',
      message: `inboundSource ${value} is the address services trust as the local user`,
      hint: 'take another loopback address, such as 127.0.0.6',
    })
    return value
  }
  return loopback(value, '/inboundSource', report)
}

/** Linux takes no longer path of a unix socket. */
const maxSocketPathBytes = 107

function runDirectory(path: string, report: Report): string {
  const bytes = Buffer.byteLength(workerSocketPath(path))
  if (bytes > maxSocketPathBytes) {
    report('/paths/run', {
      rule: 'path-too-long',
      message: `paths.run is ${bytes - maxSocketPathBytes} bytes too long: its sockets have paths of ${bytes} bytes, and the system allows ${maxSocketPathBytes}`,
      hint: 'take a shorter directory, such as /run/mesh/agent',
    })
  }
  return absolute(path, '/paths/run', report)
}

function absolute(path: string, pointer: string, report: Report): string {
  if (!path.startsWith('/')) {
    const name = pointer.slice(1).replace('/', '.')
    report(pointer, {
      rule: 'relative-path',
      message: `${name} ${JSON.stringify(path)} must be an absolute path`,
    })
  }
  return path
}
