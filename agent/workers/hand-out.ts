/**
 * Owns one value in the form in which each worker needs it: whole at first, afterwards what changed
 * since it was last told. Each form is made once, however many workers are told together.
 */

/** How a value becomes lines. */
export interface HandOutForms<T> {
  readonly whole: (value: T) => string
  /** Absent for values that are small. */
  readonly changes?: (before: T, after: T) => string
}

/** See the header. */
export class HandOut<T> {
  readonly #forms: HandOutForms<T>
  #value: T | null = null
  /**
   * The lines of the newest value, by what it follows (null: whole), for workers that are told together.
   * Those of a large mesh have megabytes, and mostly nobody asks for them again.
   */
  readonly #lines = new Map<T | null, WeakRef<{ readonly text: string }>>()
  /** What each reader was told last. */
  readonly #told = new WeakMap<object, { readonly value: T }>()

  constructor(forms: HandOutForms<T>) {
    this.#forms = forms
  }

  /** The newest value; null before the first. */
  get value(): T | null {
    return this.#value
  }

  /** Takes a value that differs from the one before. */
  set(value: T): void {
    this.#value = value
    this.#lines.clear()
  }

  /** The line that tells a reader the newest value, which counts as told; null: it knows. */
  lineFor(reader: object, takesChanges: boolean): string | null {
    const value = this.#value
    if (value === null) return null
    const before = this.#told.get(reader)
    if (before?.value === value) return null
    this.#told.set(reader, { value })
    const { whole, changes } = this.#forms
    return before === undefined || changes === undefined || !takesChanges
      ? this.#line(null, () => whole(value))
      : this.#line(before.value, () => changes(before.value, value))
  }

  #line(follows: T | null, make: () => string): string {
    const known = this.#lines.get(follows)?.deref()
    if (known !== undefined) return known.text
    const line = { text: make() }
    this.#lines.set(follows, new WeakRef(line))
    return line.text
  }
}
