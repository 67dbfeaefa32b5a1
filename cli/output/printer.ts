/**
 * Owns where a verb's words go: the result on standard output, as text for people or as one JSON
 * value for scripts, and remarks on standard error.
 */

/** Settings of a printer. */
export interface PrinterSettings {
  readonly json: boolean
}

/** Takes finished text. */
export interface Streams {
  out(text: string): void
  err(text: string): void
}

/** Prints one verb's result. */
export class Printer {
  readonly #streams: Streams
  readonly #json: boolean

  constructor(parts: { readonly streams: Streams }, settings: PrinterSettings) {
    this.#streams = parts.streams
    this.#json = settings.json
  }

  /** The result: `value` as JSON, or what `render` says, for people. */
  result(value: unknown, render: () => string): void {
    const text = this.#json ? JSON.stringify(value, null, 2) : render()
    this.#streams.out(text.endsWith('\n') ? text : `${text}\n`)
  }

  /** A remark that is no part of the result. */
  note(text: string): void {
    this.#streams.err(`${text}\n`)
  }
}
