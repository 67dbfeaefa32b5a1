/**
 * Owns the key `external` of a manifest: a service outside the mesh that programs of this host call
 * through it. Where its names lead is the agent's business.
 */

import { isIP } from 'node:net'
import { Type, type Static } from 'typebox'
import { isNoOutside, type External } from '#shared/model/external.ts'
import type { Port } from '#shared/model/names.ts'
import { show } from './check.ts'
import type { JsonDocument } from './json-document.ts'
import { parseInterceptTarget } from './manifest-capture.ts'
import { portSchema } from './manifest-ports.ts'
import type { Report } from './problem.ts'

/** A TLS name: labels of a host name, nothing that a certificate could take for several. */
const namePattern =
  '^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?([.][A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$'

const tlsSchema = Type.Union(
  [
    Type.Boolean(),
    Type.Object(
      {
        serverName: Type.Optional(
          Type.String({
            pattern: namePattern,
            maxLength: 253,
            description:
              'name that its certificate must be for; default: the name or address that is dialled',
          }),
        ),
        caFile: Type.Optional(
          Type.String({
            pattern: '^/',
            maxLength: 1024,
            description:
              'PEM file of the roots that its certificate must lead to; default: those of the system',
          }),
        ),
        certFile: Type.Optional(
          Type.String({
            pattern: '^/',
            maxLength: 1024,
            description:
              'PEM file of the certificate, its chain behind it, that the agent shows; read again every 30 seconds',
          }),
        ),
        keyFile: Type.Optional(
          Type.String({
            pattern: '^/',
            maxLength: 1024,
            description: 'PEM file of its key, without a passphrase, readable for the agent’s user',
          }),
        ),
      },
      { additionalProperties: false, description: '{"serverName": "db.example.com"}' },
    ),
  ],
  {
    description:
      'the agent speaks TLS to it, and programs plain text to the agent; without it bytes pass as they come, TLS of the programs too',
  },
)

/** The key, for the schema of a manifest. */
export const externalKey = {
  external: Type.Optional(
    Type.Object(
      {
        addresses: Type.Array(Type.String({ minLength: 1, maxLength: 253 }), {
          minItems: 1,
          maxItems: 32,
          description: 'IP addresses and DNS names; names are looked up again every 30 seconds',
        }),
        port: portSchema('TCP port it is called at'),
        tls: Type.Optional(tlsSchema),
        connectTimeoutMs: Type.Optional(
          Type.Integer({
            minimum: 10,
            maximum: 60_000,
            description: 'milliseconds in which it must take a connection, TLS and all',
            default: 3000,
          }),
        ),
      },
      {
        additionalProperties: false,
        description:
          'a service outside the mesh, called as <name>.mesh: {"addresses": ["api.example.com"], "port": 443, "tls": true}',
      },
    ),
  ),
}

type Raw = Static<ReturnType<typeof schema>>
const schema = () => Type.Object(externalKey)

const fileKeys = ['caFile', 'certFile', 'keyFile'] as const

/** Reads the key, reporting every fault; null where it is not there, or wrong. */
export function externalFacts(
  document: JsonDocument,
  raw: Raw['external'],
  report: Report,
): External | null {
  // What the schema found wrong was reported, and left out of what is read on.
  const { addresses, port, tls = false, connectTimeoutMs = 3000 } = raw ?? {}
  if (addresses === undefined || port === undefined) return null
  if (typeof tls === 'object' && (tls.certFile === undefined) !== (tls.keyFile === undefined)) {
    const [has, lacks] = tls.certFile === undefined ? ['key', 'cert'] : ['cert', 'key']
    report(`/external/tls/${has}File`, {
      rule: 'half-a-pair',
      message: `${has}File proves nothing without ${lacks}File`,
      hint: `add "${lacks}File", or remove it`,
      at: 'key',
    })
  }
  const read = addresses.map((text, index) => readAddress(text, index, addresses, report))
  const place = (pointer: string): string => {
    const { line, column } = document.placeOf(`/external/${pointer}`)
    return `${line}:${column}`
  }
  const files = fileKeys.filter((key) => typeof tls === 'object' && tls[key] !== undefined)
  return {
    addresses: read.filter((one) => one !== null),
    port: port as Port,
    tls: tls === false ? null : tls === true ? {} : tls,
    connectTimeoutMs,
    places: Object.fromEntries([
      ...read.map((one, index) => [one ?? '', place(`addresses/${index}`)] as const),
      ...files.map((key) => [key, place(`tls/${key}`)] as const),
    ]),
  }
}

/** Says what of an external service's other keys contradicts it. */
export function externalConflicts(
  { port, tls }: External,
  intercept: readonly string[],
  report: Report,
): void {
  for (const [index, text] of intercept.entries()) {
    if (tls === null || parseInterceptTarget(text)?.port !== port) continue
    report(`/intercept/${index}`, {
      rule: 'tls-twice',
      message: `programs that call ${show(text)} speak TLS themselves, and the agent would speak it over theirs`,
      hint: 'leave "tls" out and let theirs pass, or intercept the port where they speak plain text, such as 80',
    })
  }
}

function readAddress(
  text: string,
  index: number,
  all: readonly string[],
  report: Report,
): string | null {
  const pointer = `/external/addresses/${index}`
  const target = parseInterceptTarget(isIP(text) === 6 ? `[${text}]:1` : `${text}:1`)
  if (target === null) {
    report(pointer, {
      rule: 'not-an-address',
      message: `${show(text)} is neither an IP address nor a DNS name`,
      hint: 'as in "203.0.113.5", "fd00::5" or "api.example.com"; the port goes into "port"',
    })
  } else if (target.isName && (target.host.endsWith('.mesh') || target.host === 'localhost')) {
    report(pointer, {
      rule: 'not-outside',
      message: `${show(text)} is not outside the mesh`,
      hint: 'call the service itself; one of this host gets a manifest with "port"',
    })
  } else if (!target.isName && isNoOutside(target.host)) {
    report(pointer, {
      rule: 'not-outside',
      message: `${show(text)} is no address of another machine`,
      hint: 'a service of this host gets a manifest with "port"',
    })
  } else if (all.indexOf(text) !== index) {
    report(pointer, { rule: 'duplicate', message: `${show(text)} is given twice` })
  } else return target.host
  return null
}
