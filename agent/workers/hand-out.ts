/**
 * Owns one value in the form in which each worker needs it: whole at first, afterwards what changed
 * since it was last told. Each form is made once, however many workers are told together.
 */

/** How a value becomes lines. */
export interface HandOutForms<T> {
  readonly whole: (value: T) => string
  /** Ways to say what changed, the newest first; none for values that are small. */
  readonly changes?: readonly ChangesForm<T>[]
}

/** A way to say what changed, for readers that speak the protocol. */
export interface ChangesForm<T> {
  /** Version of the protocol from which on it is understood. */
  readonly since: number
  readonly make: (before: T, after: T) => string
}

/** A line that was made: in which form (null: whole), and what it follows. */
interface Line<T> {
  readonly form: ChangesForm<T> | null
  readonly follows: T | null
  readonly made: WeakRef<{ readonly text: string }>
}

/** See the header. */
export class HandOut<T> {
  readonly #forms: HandOutForms<T>
  #value: T | null = null
  /**
   * The lines of the newest value, for workers that are told together. Those of a large mesh have
   * megabytes, and mostly nobody asks for them again.
   */
  #lines: readonly Line<T>[] = []
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
    this.#lines = []
  }

  /** The line that tells a reader the newest value, which counts as told; null: it knows. */
  lineFor(reader: object, protocol: number): string | null {
    const value = this.#value
    if (value === null) return null
    const before = this.#told.get(reader)
    if (before?.value === value) return null
    this.#told.set(reader, { value })
    const { whole, changes = [] } = this.#forms
    const form = changes.find(({ since }) => protocol >= since)
    return before === undefined || form === undefined
      ? this.#line({ form: null, follows: null }, () => whole(value))
      : this.#line({ form, follows: before.value }, () => form.make(before.value, value))
  }

  #line({ form, follows }: Pick<Line<T>, 'form' | 'follows'>, make: () => string): string {
    const known = this.#lines.find((one) => one.form === form && one.follows === follows)
    const before = known?.made.deref()
    if (before !== undefined) return before.text
    const made = { text: make() }
    const others = this.#lines.filter((one) => one !== known)
    this.#lines = [...others, { form, follows, made: new WeakRef(made) }]
    return made.text
  }
}
