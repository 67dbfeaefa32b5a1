/**
 * Owns the keys of a manifest about the services it calls: those reached through local ports, and those
 * it cannot do without.
 */

import { Type, type Static } from 'typebox'
import type { Upstream } from '#shared/model/manifest.ts'
import { parsePort, parseServiceName, type ServiceName } from '#shared/model/names.ts'
import { parseTarget } from '#shared/model/target.ts'
import { show } from './check.ts'
import { joinPointer } from './json-reader.ts'
import { portSchema, type PortFacts } from './manifest-ports.ts'
import type { Report } from './problem.ts'

/** What the name of a service looks like. */
export const serviceNamePattern = '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'
const targetPattern = `^([a-z]([a-z0-9-]{0,61}[a-z0-9])?[.])?${serviceNamePattern.slice(1)}`

/** The keys, for the schema of a manifest. */
export const linkKeys = {
  upstreams: Type.Optional(
    Type.Record(
      Type.String({ pattern: targetPattern }),
      portSchema('local port on which this service reaches the other one'),
      {
        additionalProperties: false,
        maxProperties: 256,
        description:
          'names of services (lower-case letters, digits, hyphens) and the local ports that lead to them: {"orders": 9001}; a named port as "admin.orders"',
      },
    ),
  ),
  requires: Type.Optional(
    Type.Array(Type.String({ pattern: serviceNamePattern, maxLength: 63 }), {
      maxItems: 256,
      description:
        'services it cannot do without, beside its upstreams; `meshctl check` tells when one has no instance, and `meshctl unit link` has its unit wait for them',
    }),
  ),
}

type Raw = Static<ReturnType<typeof schema>>
const schema = () => Type.Object(linkKeys)

/** What the keys say. */
export interface LinkFacts {
  readonly upstreams: readonly Upstream[]
  readonly requires: readonly ServiceName[]
}

/** Reads the keys of a service's manifest, reporting every fault; null: its name is not known. */
export function linkFacts(
  raw: Raw,
  self: ServiceName | null,
  served: PortFacts,
  report: Report,
): LinkFacts {
  return {
    upstreams: upstreamsOf(raw, self, served, report),
    requires: requiresOf(raw, self, report),
  }
}

function upstreamsOf(
  raw: Raw,
  self: ServiceName | null,
  { port: main, ports }: PortFacts,
  report: Report,
): readonly Upstream[] {
  const upstreams: Upstream[] = []
  const taken = new Map<number, string>()
  for (const [name, number] of Object.entries(raw.upstreams ?? {})) {
    const pointer = joinPointer('/upstreams', name)
    const target = parseTarget(name)
    const listen = parsePort(number)
    const isOwn = main === number || ports.some(({ port }) => port === number)
    const other = taken.get(number)
    taken.set(number, name)
    if (!target.ok) {
      report(pointer, { rule: 'bad-name', message: target.problem, at: 'key' })
    } else if (other !== undefined) {
      report(pointer, {
        rule: 'port-taken',
        message: `port ${number} already leads to ${show(other)}`,
        hint: 'give each upstream a port of its own',
      })
    } else if (isOwn && self !== null) {
      report(pointer, {
        rule: 'port-taken',
        message: `port ${number} is the one ${self} itself listens on`,
        hint: 'choose a free local port',
      })
    } else if (listen.ok) {
      const { service, portName } = target.value
      upstreams.push({ service, ...(portName === null ? {} : { portName }), port: listen.value })
    }
  }
  return upstreams
}

function requiresOf(
  { requires = [] }: Raw,
  self: ServiceName | null,
  report: Report,
): readonly ServiceName[] {
  const services = new Set<ServiceName>()
  for (const [index, name] of requires.entries()) {
    const service = parseServiceName(name)
    const fault = !service.ok
      ? service.problem
      : service.value === self
        ? `${self} cannot require itself`
        : services.has(service.value)
          ? `${show(name)} is given twice`
          : ''
    if (fault !== '') report(`/requires/${index}`, { rule: 'bad-name', message: fault })
    else if (service.ok) services.add(service.value)
  }
  return [...services]
}
