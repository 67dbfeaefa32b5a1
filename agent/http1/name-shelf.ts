/**
 * Owns the finding of known field names in a text, without cutting them out of it. Names that
 * services may take for one another (`X_Mesh_Source`, `x.mesh.source`) are found alike. Pure.
 */

/** Letters in lower case, digits as they are, a hyphen for anything else. */
const folded = new Uint8Array(256).fill(0x2d)
for (const char of '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz') {
  folded[char.charCodeAt(0)] = char.toLowerCase().charCodeAt(0)
}

interface Entry<Value> {
  readonly name: string
  readonly value: Value
}

/** Longer names are on no shelf. */
const longest = 31

/** See the header. */
export class NameShelf<Value> {
  /** Entries by the name's length and first letter. */
  readonly #shelves: (readonly Entry<Value>[] | undefined)[]

  /** @param entries names in lower case, with hyphens */
  constructor(entries: Iterable<readonly [string, Value]>) {
    this.#shelves = Array.from({ length: (longest + 1) << 5 })
    for (const [name, value] of entries) {
      if (name.length > longest) throw new TypeError(`${name} is too long a name`)
      const shelf = shelfOf(name, 0, name.length)
      this.#shelves[shelf] = [...(this.#shelves[shelf] ?? []), { name, value }]
    }
  }

  /** What is known of the name from `start` to before `end`, which is a token. */
  find(text: string, start: number, end: number): Value | undefined {
    if (end - start > longest) return undefined
    const shelf = this.#shelves[shelfOf(text, start, end)]
    if (shelf === undefined) return undefined
    for (const { name, value } of shelf) if (begins(text, start, name)) return value
    return undefined
  }
}

/** Whether a text goes on with this name, however it is spelt. */
export function begins(text: string, start: number, name: string): boolean {
  for (let i = 0; i < name.length; i++) {
    if (folded[text.charCodeAt(start + i)] !== name.charCodeAt(i)) return false
  }
  return true
}

/** Whether nothing but hyphens stands for the hyphens of a name. */
export function isPlainlySpelt(text: string, start: number, end: number): boolean {
  for (let at = start; at < end; at++) {
    const code = text.charCodeAt(at)
    if (code !== 0x2d && folded[code] === 0x2d) return false
  }
  return true
}

function shelfOf(text: string, start: number, end: number): number {
  return ((end - start) << 5) | ((folded[text.charCodeAt(start)] as number) & 31)
}
