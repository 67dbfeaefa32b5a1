/**
 * Owns one value in the form in which each worker needs it: whole at first, afterwards what changed
 * since it was last told. Each form is made once, however many workers there are.
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
  #whole: string | null = null
  readonly #changes = new Map<T, string>()
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
    this.#whole = null
    this.#changes.clear()
  }

  /** The line that tells a reader the newest value, which counts as told; null: it knows. */
  lineFor(reader: object, takesChanges: boolean): string | null {
    const value = this.#value
    if (value === null) return null
    const before = this.#told.get(reader)
    if (before?.value === value) return null
    this.#told.set(reader, { value })
    const { whole, changes } = this.#forms
    if (before === undefined || changes === undefined || !takesChanges) {
      return (this.#whole ??= whole(value))
    }
    let line = this.#changes.get(before.value)
    if (line === undefined) this.#changes.set(before.value, (line = changes(before.value, value)))
    return line
  }
}
