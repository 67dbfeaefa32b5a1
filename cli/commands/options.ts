/** Readers of option values; each says what to write instead. */

import { InvalidArgumentError, Option, type Command } from 'commander'
import { parseTtl } from '#cli/token.ts'

/** A length of time, in milliseconds. */
export function time(text: string): number {
  const ms = parseTtl(text)
  if (ms === null) throw new InvalidArgumentError('write 90s, 15m, 2h or 1d')
  return ms
}

/** `--timeout`, whose default is told as it would be written. */
export function timeoutOption(description: string, ms: number): Option {
  const text = ms % 60_000 === 0 ? `${ms / 60_000}m` : `${ms / 1000}s`
  return new Option('--timeout <time>', description).argParser(time).default(ms, text)
}

/** A whole number from 1 to 999,999. */
export function count(text: string): number {
  if (!/^[1-9]\d{0,5}$/.test(text)) throw new InvalidArgumentError('write a number')
  return Number(text)
}

/** URLs with commas between them. */
export function urls(text: string): readonly string[] {
  return text.split(',').map((part) => part.trim())
}

/** Collects the values of an option that may be repeated. */
export function list(value: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), value]
}

/** Declares a verb. */
export function verb(parent: Command, name: string, description: string): Command {
  return parent.command(name).description(description)
}
