/**
 * Owns HPACK's Huffman code (RFC 7541 §5.2 and appendix B). The code is canonical, so the lengths of
 * its 257 codes are all there is to know; tables for both ways are made from them once. Decoding
 * takes four bits a step and never looks at single bits.
 */

const lengths = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
  28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5,
  6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
  7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6,
  7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23,
  23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22,
  22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22,
  23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27,
  27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25,
  24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
] as const

const endOfString = 256
/** A step that no code allows. */
const dead = 0xffff
/** Set in a step that completes a symbol. */
const emits = 0x100

/** Lengths of the codes of the 256 byte values, bits. */
const codeBits = Uint8Array.from(lengths.slice(0, endOfString))
const codes = canonicalCodes()
const decoding = decodingTable()

function canonicalCodes(): Uint32Array {
  const result = new Uint32Array(lengths.length)
  const longest = Math.max(...lengths)
  let code = 0
  for (let bits = 1; bits <= longest; bits++, code <<= 1) {
    lengths.forEach((length, symbol) => {
      if (length === bits) result[symbol] = code++
    })
  }
  return result
}

interface DecodingTable {
  /** By state and four bits: the next state, with `emits`; or `dead`. */
  readonly steps: Uint16Array
  /** By state and four bits: the symbol a step with `emits` completes. */
  readonly symbols: Uint8Array
  /** By state: 1 where a string may end, being at most seven bits of padding (§5.2). */
  readonly mayEnd: Uint8Array
}

function decodingTable(): DecodingTable {
  // A tree first: children by node and bit; a negative child is the leaf of symbol -1 - child.
  const children: [number, number][] = [[0, 0]]
  const paddingDepth = new Map([[0, 0]])
  lengths.forEach((length, symbol) => {
    let node = 0
    for (let bit = length - 1; bit >= 0; bit--) {
      const branch = ((codes[symbol] as number) >>> bit) & 1
      const pair = children[node] as [number, number]
      if (bit === 0) {
        pair[branch] = -1 - symbol
      } else {
        if (pair[branch] === 0) {
          pair[branch] = children.push([0, 0]) - 1
          const depth = paddingDepth.get(node)
          if (branch === 1 && depth !== undefined) paddingDepth.set(pair[branch], depth + 1)
        }
        node = pair[branch] as number
      }
    }
  })
  const steps = new Uint16Array(children.length * 16)
  const symbols = new Uint8Array(children.length * 16)
  children.forEach((_, state) => {
    for (let nibble = 0; nibble < 16; nibble++) {
      let node = state
      let step = 0
      for (let bit = 3; bit >= 0; bit--) {
        const next = (children[node] as [number, number])[(nibble >>> bit) & 1] as number
        node = Math.max(next, 0)
        if (next === -1 - endOfString) {
          step = dead
          break
        }
        if (next < 0) {
          step = emits
          symbols[state * 16 + nibble] = -1 - next
        }
      }
      steps[state * 16 + nibble] = step === dead ? dead : step | node
    }
  })
  const mayEnd = Uint8Array.from(children, (_, node) =>
    (paddingDepth.get(node) ?? 8) <= 7 ? 1 : 0,
  )
  return { steps, symbols, mayEnd }
}

/**
 * Decodes `source[start, end)` into `target`, which must hold 8/5 of the input. Answers how many
 * bytes came out, or -1 where the input is no Huffman string: EOS in it, padding longer than seven
 * bits or not of ones.
 */
export function huffmanDecode(source: Buffer, start: number, end: number, target: Buffer): number {
  const { steps, symbols, mayEnd } = decoding
  let state = 0
  let length = 0
  for (let at = start; at < end; at++) {
    const byte = source[at] as number
    let entry = state * 16 + (byte >>> 4)
    let step = steps[entry] as number
    if (step === dead) return -1
    if ((step & emits) !== 0) target[length++] = symbols[entry] as number
    entry = (step & 0xff) * 16 + (byte & 15)
    step = steps[entry] as number
    if (step === dead) return -1
    if ((step & emits) !== 0) target[length++] = symbols[entry] as number
    state = step & 0xff
  }
  return mayEnd[state] === 1 ? length : -1
}

/** How many bytes Latin-1 `text` takes when encoded. Throws a TypeError on any other text. */
export function huffmanBytes(text: string): number {
  let bits = 0
  for (let i = 0; i < text.length; i++) {
    const length = codeBits[text.charCodeAt(i)]
    if (length === undefined) throw new TypeError('a header field must be Latin-1 text')
    bits += length
  }
  return (bits + 7) >>> 3
}

/** Encodes Latin-1 `text` into `target` at `at`; answers the position after it. */
export function huffmanEncode(text: string, target: Buffer, at: number): number {
  let pending = 0
  let bits = 0
  for (let i = 0; i < text.length; i++) {
    const symbol = text.charCodeAt(i)
    let length = codeBits[symbol] as number
    const code = codes[symbol] as number
    // At most seven bits wait, so codes beyond 24 bits go in two parts to stay within 31.
    if (length > 24) {
      length -= 24
      pending = (pending << length) | (code >>> 24)
      for (bits += length; bits >= 8;) target[at++] = pending >>> (bits -= 8)
      pending = (pending & 0x7f) << 24
      pending |= code & 0xffffff
      bits += 24
    } else {
      pending = ((pending & 0x7f) << length) | code
      bits += length
    }
    while (bits >= 8) target[at++] = pending >>> (bits -= 8)
  }
  if (bits > 0) target[at++] = (pending << (8 - bits)) | (0xff >>> bits)
  return at
}
