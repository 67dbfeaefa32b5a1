/**
 * Owns the strict reading of JSON text (RFC 8259) with the offset of every key and value, so that a
 * problem found much later can still say where. Unlike JSON.parse it refuses a key given twice, the
 * key `__proto__` and deep nesting, and says in words what is wrong. It knows no lines and no files.
 */

/** What JSON text can hold. */
export type JsonValue =
  null | boolean | number | string | readonly JsonValue[] | { readonly [key: string]: JsonValue }

/** A complaint about one place in the text. */
export interface JsonFault {
  /** UTF-16 offset into the text. */
  readonly offset: number
  /** JSON pointer (RFC 6901) of the value it is about, or of the one it stands in. */
  readonly pointer: string
  readonly rule: 'json-syntax' | 'duplicate-key' | 'forbidden-key' | 'too-deep'
  readonly message: string
  readonly hint: string
}

/** What reading answers. With any fault the value must not be used. */
export interface JsonReading {
  readonly value: JsonValue
  readonly faults: readonly JsonFault[]
  /** Offset of each value, by JSON pointer. */
  readonly values: ReadonlyMap<string, number>
  /** Offset of each object key, by the JSON pointer of its value. */
  readonly keys: ReadonlyMap<string, number>
}

/** Most arrays and objects inside each other. */
const maxDepth = 32

/** Appends one step to a JSON pointer. */
export function joinPointer(pointer: string, step: string | number): string {
  return `${pointer}/${String(step).replaceAll('~', '~0').replaceAll('/', '~1')}`
}

/** Takes a JSON pointer apart. */
export function splitPointer(pointer: string): readonly string[] {
  const steps = pointer.split('/').slice(1)
  return steps.map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'))
}

/** Reads one JSON text. Never throws; the first syntax error ends the reading. */
export function readJson(text: string): JsonReading {
  return new Reader(text).read()
}

/** Ends a reading at its first syntax error; never leaves this file. */
class Stop extends Error {}

const numberShape = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y
const wordShape = /[A-Za-z_$][\w$]*/y
const plainText = /[^"\\\p{Cc}]*/uy
const escapes: Readonly<Record<string, string>> = {
  '"': '"',
  '\\': '\\',
  '/': '/',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
}

class Reader {
  readonly #text: string
  readonly #faults: JsonFault[] = []
  readonly #values = new Map<string, number>()
  readonly #keys = new Map<string, number>()
  #at = 0
  #depth = 0

  constructor(text: string) {
    this.#text = text
  }

  read(): JsonReading {
    let value: JsonValue = null
    try {
      value = this.#value('')
      this.#space()
      if (this.#at < this.#text.length) {
        this.#fail('', 'unexpected text after the value', 'a file holds one JSON value')
      }
    } catch (error) {
      if (!(error instanceof Stop)) throw error
    }
    return { value, faults: this.#faults, values: this.#values, keys: this.#keys }
  }

  #value(pointer: string): JsonValue {
    this.#space()
    this.#values.set(pointer, this.#at)
    const char = this.#text[this.#at]
    if (char === '{') return this.#nested(pointer, () => this.#object(pointer))
    if (char === '[') return this.#nested(pointer, () => this.#array(pointer))
    if (char === '"') return this.#string(pointer)
    const number = this.#match(numberShape)
    if (number !== '') return Number(number)
    const start = this.#at
    const word = this.#match(wordShape)
    if (word === 'true') return true
    if (word === 'false') return false
    if (word === 'null') return null
    this.#at = start
    if (word !== '') {
      return this.#fail(pointer, `${JSON.stringify(word)} is not a value`, 'quote texts: "text"')
    }
    if (char === "'") return this.#fail(pointer, 'single quotes', 'JSON wants double quotes')
    return this.#fail(pointer, `a value is missing before ${this.#found()}`, '')
  }

  #nested<T>(pointer: string, read: () => T): T {
    if (this.#depth === maxDepth) {
      this.#report('too-deep', this.#at, pointer, `nested more than ${maxDepth} deep`, '')
      throw new Stop()
    }
    this.#depth += 1
    this.#at += 1
    const value = read()
    this.#depth -= 1
    return value
  }

  #array(pointer: string): readonly JsonValue[] {
    const array: JsonValue[] = []
    if (this.#taken(']')) return array
    do {
      if (array.length > 0 && this.#peek() === ']') this.#trailingComma(pointer)
      array.push(this.#value(joinPointer(pointer, array.length)))
    } while (this.#taken(','))
    if (!this.#taken(']')) this.#fail(pointer, `expected , or ] but found ${this.#found()}`, '')
    return array
  }

  #object(pointer: string): { readonly [key: string]: JsonValue } {
    const object: Record<string, JsonValue> = {}
    if (this.#taken('}')) return object
    let first = true
    do {
      const next = this.#peek()
      if (!first && next === '}') this.#trailingComma(pointer)
      if (next !== '"') {
        this.#fail(pointer, `expected a key but found ${this.#found()}`, 'keys are quoted: "port"')
      }
      first = false
      this.#member(pointer, object)
    } while (this.#taken(','))
    if (!this.#taken('}')) this.#fail(pointer, `expected , or } but found ${this.#found()}`, '')
    return object
  }

  #member(pointer: string, object: Record<string, JsonValue>): void {
    const start = this.#at
    const key = this.#string(pointer)
    if (!this.#taken(':')) {
      this.#fail(pointer, `expected : after the key but found ${this.#found()}`, '')
    }
    if (key === '__proto__') {
      this.#report('forbidden-key', start, pointer, 'the key "__proto__" is refused', '')
      // Read on for the sake of later problems; the value is kept nowhere.
      this.#value(joinPointer(pointer, key))
      return
    }
    const below = joinPointer(pointer, key)
    if (Object.hasOwn(object, key)) {
      const message = `the key ${JSON.stringify(key)} is given twice`
      this.#report('duplicate-key', start, below, message, 'keep one of them')
    }
    this.#keys.set(below, start)
    object[key] = this.#value(below)
  }

  #string(pointer: string): string {
    const start = this.#at
    this.#at += 1
    let text = ''
    for (;;) {
      text += this.#match(plainText)
      const char = this.#text[this.#at]
      if (char === '"') {
        this.#at += 1
        return text
      }
      if (char === '\\') {
        text += this.#escape(pointer)
      } else if (char === undefined || char === '\n' || char === '\r') {
        this.#at = start
        this.#fail(pointer, 'the text has no closing quote on its line', '')
      } else if (char > '\u001f') {
        text += char
        this.#at += 1
      } else {
        this.#fail(pointer, `control character ${this.#found()} in a text`, 'write it as \\u00XX')
      }
    }
  }

  #escape(pointer: string): string {
    const char = this.#text[this.#at + 1] ?? ''
    if (char === 'u') {
      const digits = this.#text.slice(this.#at + 2, this.#at + 6)
      if (!/^[0-9a-fA-F]{4}$/.test(digits)) {
        this.#fail(pointer, 'a \\u escape needs four hexadecimal digits', '')
      }
      this.#at += 6
      return String.fromCharCode(Number.parseInt(digits, 16))
    }
    const meant = Object.hasOwn(escapes, char) ? escapes[char] : undefined
    if (meant === undefined) {
      return this.#fail(pointer, `unknown escape ${JSON.stringify(`\\${char}`)}`, 'use \\\\')
    }
    this.#at += 2
    return meant
  }

  #space(): void {
    for (;;) {
      const char = this.#text[this.#at]
      if (char === ' ' || char === '\n' || char === '\t' || char === '\r') this.#at += 1
      else return
    }
  }

  #peek(): string {
    this.#space()
    return this.#text[this.#at] ?? ''
  }

  #taken(char: string): boolean {
    if (this.#peek() !== char) return false
    this.#at += 1
    return true
  }

  #match(shape: RegExp): string {
    shape.lastIndex = this.#at
    const found = shape.exec(this.#text)?.[0] ?? ''
    this.#at += found.length
    return found
  }

  #found(): string {
    const point = this.#text.codePointAt(this.#at)
    return point === undefined ? 'the end of the file' : JSON.stringify(String.fromCodePoint(point))
  }

  #trailingComma(pointer: string): never {
    return this.#fail(pointer, 'a comma before the closing bracket', 'remove the comma')
  }

  #fail(pointer: string, message: string, hint: string): never {
    const comment = this.#text.startsWith('//', this.#at) || this.#text.startsWith('/*', this.#at)
    if (comment) this.#report('json-syntax', this.#at, pointer, 'a comment', 'JSON has no comments')
    else this.#report('json-syntax', this.#at, pointer, message, hint)
    throw new Stop()
  }

  #report(
    rule: JsonFault['rule'],
    offset: number,
    pointer: string,
    message: string,
    hint: string,
  ): void {
    this.#faults.push({ offset, pointer, rule, message, hint })
  }
}
