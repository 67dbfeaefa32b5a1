/**
 * Owns the reading of the agent's boot config: sources to frozen values, by the schema and by the rules
 * beyond it. Every fault is reported together with the others, none at the first.
 */

import { isIP } from 'node:net'
import { parseHostName, type HostName } from '#shared/model/names.ts'
import { parseServiceGlobs } from '#shared/model/service-globs.ts'
import { parseHostPort } from '#shared/rpc/host-port.ts'
import { readConfig, type ConfigReading, type ConfigSources } from '#shared/schema/config.ts'
import { parseHostAddress } from '#shared/schema/ip-address.ts'
import { joinPointer } from '#shared/schema/json-reader.ts'
import type { Report } from '#shared/schema/problem.ts'
import type { AgentConfig, CaptureConfig, ListenAddress } from './config.ts'
import { agentConfigSchema } from './config-schema.ts'
import type { MachineFacts } from './machine-facts.ts'
import { workerSocketPath } from './workers/socket-path.ts'

/** What the variables of the agent's config start with. */
export const agentVariables = 'MESH_'

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
