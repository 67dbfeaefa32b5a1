/** Owns a logger that keeps its lines, for tests that read them. */

import { createLogger, type Logger } from '#shared/logging/logger.ts'

/** A logger and what it has written, parsed. */
export interface LogLines {
  readonly logger: Logger
  readonly lines: readonly Readonly<Record<string, unknown>>[]
}

/** Makes one; every level is kept. */
export function logLines(): LogLines {
  const lines: Readonly<Record<string, unknown>>[] = []
  const write = (line: string): void => {
    lines.push(JSON.parse(line) as Readonly<Record<string, unknown>>)
  }
  return { logger: createLogger({ name: 'test', level: 'trace', destination: { write } }), lines }
}
