/**
 * Owns the keys of a manifest about interception: who the service is on its host, which addresses
 * lead to it, and who may connect to it without the mesh.
 */

import { isIPv4, isIPv6 } from 'node:net'
import { Type, type Static } from 'typebox'
import type { AgentDownStance, InboundMode, RunAs } from '#shared/model/manifest.ts'
import { show } from './check.ts'
import type { JsonDocument } from './json-document.ts'
import type { Report } from './problem.ts'

/** The keys, for the schema of a manifest. */
export const captureKeys = {
  run: Type.Optional(
    Type.Object(
      {
        user: Type.Optional(
          Type.String({
            pattern: '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}[$]?$',
            maxLength: 33,
            description:
              'user the service runs as: its calls are known by it, and nobody else may answer at its port; default: the owner of the listening socket',
          }),
        ),
        unit: Type.Optional(
          Type.String({
            maxLength: 255,
            description:
              'systemd unit the service runs as, "orders.service": its calls are known by the unit, whatever user they are of',
          }),
        ),
      },
      { additionalProperties: false, description: 'who the service is on this host' },
    ),
  ),
  inbound: Type.Optional(
    Type.Enum(['off', 'permissive', 'strict'], {
      description:
        'connections to the port that do not come through the mesh: strict refuses them, permissive counts them, off ignores them',
      default: 'permissive',
    }),
  ),
  onAgentDown: Type.Optional(
    Type.Enum(['direct', 'deny'], {
      description:
        'calls while the agent of the calling host is gone: direct lets those to intercepted addresses, and to a virtual IP where the service may be called in plain, pass without the mesh, deny refuses them',
      default: 'direct',
    }),
  ),
  intercept: Type.Optional(
    Type.Array(Type.String({ maxLength: 260 }), {
      maxItems: 64,
      description:
        'addresses, "ip:port" or "name:port", by which programs know the service: calls to them go through the mesh',
    }),
  ),
}

type Raw = Static<ReturnType<typeof schema>>
const schema = () => Type.Object(captureKeys)

/** What the keys say. */
export interface CaptureFacts {
  readonly run?: RunAs
  readonly inbound: InboundMode
  readonly intercept: readonly string[]
  readonly onAgentDown: AgentDownStance
}

/** An address that leads to a service: an IP address in its canonical spelling or a DNS name. */
export interface InterceptTarget {
  readonly host: string
  readonly isName: boolean
  readonly port: number
}

/** Reads `ip:port`, `[ip]:port` or `name:port`; null where it is none of them. */
export function parseInterceptTarget(text: string): InterceptTarget | null {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})$/.exec(text)
  const [, six, other = '', digits = ''] = match ?? []
  const port = Number(digits)
  if (match === null || port < 1 || port > 65_535) return null
  if (six !== undefined) {
    return isIPv6(six)
      ? { host: new URL(`http://[${six}]`).hostname.slice(1, -1), isName: false, port }
      : null
  }
  if (isIPv4(other)) return { host: other, isName: false, port }
  const name = other.toLowerCase().replace(/\.$/, '')
  const isName =
    name.length <= 253 &&
    /[a-z]/.test(name) &&
    name.split('.').every((part) => /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/.test(part))
  return isName ? { host: name, isName, port } : null
}

/** Reads the keys, reporting every fault. */
export function captureFacts(document: JsonDocument, raw: Raw, report: Report): CaptureFacts {
  const user = raw.run?.user
  const namesUser = document.has('/run/user')
  const namesUnit = document.has('/run/unit')
  if (document.has('/run') && raw.run !== undefined && !namesUser && !namesUnit) {
    report('/run', {
      rule: 'nothing-to-do',
      message: 'run names nobody',
      hint: 'write {"user": "orders"} or {"unit": "orders.service"}, or remove it',
    })
  }
  if (namesUser && namesUnit) {
    report('/run/user', {
      rule: 'unused-key',
      message: 'a service that is known by its unit is not known by a user, too',
      hint: 'remove "user": systemd tells whom the unit runs as',
      at: 'key',
    })
  }
  const unit = raw.run?.unit
  if (unit !== undefined && !/^[A-Za-z0-9_:.@\\-]*[A-Za-z0-9_:.\\-][.]service$/.test(unit)) {
    report('/run/unit', {
      rule: 'not-a-unit',
      message: `${show(unit)} is not the name of a service unit`,
      hint: 'write it whole, as in "orders.service" or "worker@1.service"; systemctl status PID tells it',
    })
  }
  if (user === 'root' || user === '0') {
    report('/run/user', {
      rule: 'root-is-nobody',
      message: 'root is no identity: root may be anybody on this host',
      hint: 'let the service run as a user of its own',
    })
  }
  return {
    ...runOf(raw.run),
    inbound: raw.inbound ?? 'permissive',
    intercept: interceptOf(raw.intercept ?? [], report),
    onAgentDown: raw.onAgentDown ?? 'direct',
  }
}

function runOf({ user, unit }: NonNullable<Raw['run']> = {}): { readonly run?: RunAs } {
  if (unit !== undefined) return { run: { kind: 'unit', unit } }
  return user === undefined ? {} : { run: { kind: 'user', user } }
}

function interceptOf(texts: readonly string[], report: Report): readonly string[] {
  for (const [index, text] of texts.entries()) {
    const pointer = `/intercept/${index}`
    const target = parseInterceptTarget(text)
    if (target === null) {
      report(pointer, {
        rule: 'not-an-address',
        message: `${show(text)} is neither "ip:port" nor "name:port"`,
        hint: 'as in "10.0.0.5:5432", "[fd00::5]:5432" or "legacy-db.internal:5432"',
      })
    } else if (target.port === 22) {
      report(pointer, {
        rule: 'never-captured',
        message: 'port 22 is never captured, so that nobody locks themselves out of a host',
      })
    } else if (target.isName && target.host.endsWith('.mesh')) {
      report(pointer, {
        rule: 'never-captured',
        message: `${show(text)} is a name of the mesh, which leads there anyway`,
        hint: 'remove it',
      })
    } else if (texts.indexOf(text) !== index) {
      report(pointer, { rule: 'duplicate', message: `${show(text)} is given twice` })
    }
  }
  return texts
}
