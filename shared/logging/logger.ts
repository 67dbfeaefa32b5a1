/**
 * Owns how log lines look and where they go: one JSON object a line, level by name, RFC 3339 time,
 * secrets struck out. Home of pino. Rooms take a `Logger` as a part and make children of it by
 * component; only composition roots call `createLogger`.
 */

import { destination as openDestination, pino, stdSerializers, stdTimeFunctions } from 'pino'
import type { DestinationStream, Logger } from 'pino'

export type { Logger } from 'pino'

/** How much is logged. */
export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent'

/** Settings of a process's logger. */
export interface LoggerSettings {
  /** The program: `mesh-agent`, `mesh-proxy`, `mesh-controller`. */
  readonly name: string
  /** @default 'info' */
  readonly level?: LogLevel
  /**
   * Whether a line is with the kernel before the call returns. Audit lines need it; access lines
   * do not, and are dropped past `maxQueuedBytes` when nobody reads them. @default true
   */
  readonly sync?: boolean
  /** Most bytes an asynchronous logger holds. @default 4 MiB */
  readonly maxQueuedBytes?: number
  /** Takes finished lines, each with its newline. @default standard output */
  readonly destination?: DestinationStream
}

const struckOut = '[redacted]'

/**
 * Struck out of finished lines rather than by pino's `redact`, which was measured at 50 µs a line
 * for these keys two objects deep: here any depth costs under 2 µs. First the values of keys that
 * name a secret (a text, a list, a flat object), then private keys and join tokens by their looks.
 */
const secretValues =
  /"((?:proxy-)?authorization|(?:set-)?cookie|(?:join)?token|key_?pem|private_?key|passphrase|password|secret)":(?:"(?:[^"\\]|\\.)*"|[[{](?:"(?:[^"\\]|\\.)*"|[^"[\]{}])*[\]}])/gi
const secretTexts =
  /-----BEGIN [A-Z ]*PRIVATE KEY-----[^"]*?(?:-----END [A-Z ]*PRIVATE KEY-----|(?="))|hmjoin1\.[\w.-]+/g

function strikeSecrets(line: string): string {
  return line
    .replace(secretValues, (_, key: string) => `"${key}":"${struckOut}"`)
    .replace(secretTexts, struckOut)
}

/** Makes a process's logger. */
export function createLogger(settings: LoggerSettings): Logger {
  return pino(
    {
      level: settings.level ?? 'info',
      base: { name: settings.name },
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: stdSerializers.errWithCause, error: stdSerializers.errWithCause },
      hooks: { streamWrite: strikeSecrets },
    },
    settings.destination ?? standardOutput(settings),
  )
}

function standardOutput(settings: LoggerSettings): DestinationStream {
  const sync = settings.sync ?? true
  return openDestination({
    fd: 1,
    sync,
    ...(sync ? {} : { maxLength: settings.maxQueuedBytes ?? 4 * 1024 * 1024 }),
  })
}
