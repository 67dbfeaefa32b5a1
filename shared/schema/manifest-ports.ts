/**
 * Owns the keys of a manifest about where the service listens and how it speaks there: the short form
 * `port`, and `ports` by name. Which port is the main one is decided here.
 */

import { Type, type Static } from 'typebox'
import { carriageOfDeclared, declarable, type DeclaredProtocol } from '#shared/model/finding.ts'
import type { ManifestPort } from '#shared/model/manifest.ts'
import { parsePortName, type Port } from '#shared/model/names.ts'
import { show } from './check.ts'
import type { JsonDocument } from './json-document.ts'
import { joinPointer } from './json-reader.ts'
import { portAllowKey } from './policy.ts'
import type { Report } from './problem.ts'

/** A TCP port with its words. */
export const portSchema = (description: string) =>
  Type.Integer({ minimum: 1, maximum: 65535, description })

const protocolSchema = Type.Enum([...declarable], {
  description:
    'how bytes of the service are understood; without it, as the service is found to speak when it is asked',
})

const namedPort = Type.Union([
  portSchema('TCP port the service listens on'),
  Type.Object(
    {
      port: portSchema('TCP port the service listens on'),
      protocol: Type.Optional(protocolSchema),
      ...portAllowKey,
    },
    { additionalProperties: false, description: '{"port": 9090, "protocol": "tcp"}' },
  ),
])

/** The keys, for the schema of a manifest. */
export const portKeys = {
  port: Type.Optional(
    portSchema(
      'TCP port the service listens on; leave it out for a service that only calls others',
    ),
  ),
  ports: Type.Optional(
    Type.Record(Type.String({ pattern: '^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$' }), namedPort, {
      additionalProperties: false,
      minProperties: 1,
      maxProperties: 32,
      description:
        'ports by name (lower-case letters, digits, hyphens, a letter first), called as admin.orders: {"http": 8080, "admin": {"port": 9090, "protocol": "tcp", "allow": ["ops"]}}; without port the first one is the main one',
    }),
  ),
  protocol: Type.Optional(protocolSchema),
}

/** What the keys say. */
export interface PortFacts {
  /** The main port; absent for a pure caller. */
  readonly port?: Port
  readonly protocol: 'http' | 'tcp'
  readonly declared: DeclaredProtocol | null
  readonly ports: readonly ManifestPort[]
}

type Raw = Static<ReturnType<typeof schema>>
const schema = () => Type.Object(portKeys)

/** Reads the keys, reporting every fault. */
export function portFacts(document: JsonDocument, raw: Raw, report: Report): PortFacts {
  const ports = namedPorts(raw, report)
  // A port that is there and wrong was reported: nothing else takes its place.
  const main = document.has('/port') ? undefined : ports[0]
  if (main !== undefined && document.has('/protocol')) {
    report('/protocol', {
      rule: 'unused-key',
      message: 'protocol has no effect where "ports" gives each port its own',
      hint: `write it there: "${main.name}": {"port": ${main.port}, "protocol": …}`,
      at: 'key',
    })
  }
  const port = (raw.port as Port | undefined) ?? main?.port
  const declared = main === undefined ? (raw.protocol ?? null) : main.declared
  return {
    ...(port === undefined ? {} : { port }),
    protocol: declared === null ? 'http' : carriageOfDeclared(declared),
    declared,
    ports,
  }
}

function namedPorts({ port: short, ports = {} }: Raw, report: Report): readonly ManifestPort[] {
  const taken = new Map<number, string>(short === undefined ? [] : [[short, 'port']])
  return Object.entries(ports).flatMap(([key, given]): readonly ManifestPort[] => {
    const pointer = joinPointer('/ports', key)
    const { port, protocol } = typeof given === 'number' ? { port: given } : given
    // Reported by the schema, and left out of what is read on.
    if (port === undefined) return []
    const name = parsePortName(key)
    const other = taken.get(port)
    taken.set(port, show(key))
    if (!name.ok) report(pointer, { rule: 'bad-name', message: name.problem, at: 'key' })
    else if (other !== undefined) {
      report(pointer, {
        rule: 'port-taken',
        message: `port ${port} is ${other} already`,
        hint: 'give each name a port of its own',
      })
    } else {
      const declared = protocol ?? null
      return [
        {
          name: name.value,
          port: port as Port,
          protocol: declared === null ? 'http' : carriageOfDeclared(declared),
          declared,
        },
      ]
    }
    return []
  })
}
