/** Owns the bending of texts for fuzz tests: the same seed gives the same texts on every machine. */

/** A small generator of numbers (mulberry32). */
export class Dice {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
  }

  /** A whole number from 0 to below `limit`. */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let mixed = this.#state
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * limit) | 0
  }

  /** One of a list. */
  of<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T
  }
}

/** Bends a text a few times, with words that matter to its reader. */
export function mutate(text: string, words: readonly string[], dice: Dice): string {
  let bent = text
  for (let times = dice.below(4); times > 0; times--) bent = mutateOnce(bent, words, dice)
  return bent
}

function mutateOnce(text: string, words: readonly string[], dice: Dice): string {
  const at = dice.below(text.length + 1)
  const to = Math.min(text.length, at + 1 + dice.below(8))
  const lines = text.split('\r\n')
  const line = dice.below(lines.length)
  switch (dice.below(9)) {
    case 0:
      return text.slice(0, at) + String.fromCharCode(dice.below(256)) + text.slice(at + 1)
    case 1:
      return text.slice(0, at) + dice.of(words) + text.slice(at)
    case 2:
      return text.slice(0, at) + text.slice(to)
    case 3:
      return text.slice(0, at) + text.slice(at, to) + text.slice(at)
    case 4:
      return lines.toSpliced(line, 0, dice.of(words)).join('\r\n')
    case 5:
      return lines.toSpliced(line, 1).join('\r\n')
    case 6:
      return lines.toSpliced(dice.below(lines.length), 0, lines[line] ?? '').join('\r\n')
    case 7:
      return lines.with(line, dice.of(words)).join('\r\n')
    default:
      return text.slice(0, at)
  }
}

/** Cuts a text into pieces at random places. */
export function cut(text: string, dice: Dice): string[] {
  const pieces: string[] = []
  let rest = text
  while (rest.length > 0) {
    const length = dice.below(3) === 0 ? rest.length : 1 + dice.below(rest.length)
    pieces.push(rest.slice(0, length))
    rest = rest.slice(length)
  }
  return pieces
}
