/**
 * Owns the reading of DER (X.690 §10) as strictly as certificates need it: definite minimal
 * lengths, low tag numbers, no byte too many. It knows no certificate and never guesses.
 */

/** One element; `content` and `raw` are views of the bytes it was read from. */
export interface DerElement {
  /** The identifier octet: class, constructed bit and tag number. */
  readonly tag: number
  readonly content: Buffer
  /** Identifier, length and content. */
  readonly raw: Buffer
}

/** Bytes that are not the DER they should be. Caught where the reading began, never let out. */
export class DerError extends Error {
  override readonly name = 'DerError'
}

/** Universal tags, as they stand in the identifier octet. */
export const tags = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
} as const

/** Reads the one element that fills `bytes`; throws {@link DerError}. */
export function readDer(bytes: Buffer): DerElement {
  const element = readAt(bytes, 0)
  if (element.raw.length !== bytes.length) throw new DerError('bytes follow the outermost element')
  return element
}

/** Reads the elements inside a constructed one; throws {@link DerError}. */
export function childrenOf(parent: DerElement): readonly DerElement[] {
  if ((parent.tag & 0x20) === 0) throw new DerError('a primitive element holds no others')
  const children: DerElement[] = []
  for (let at = 0; at < parent.content.length;) {
    const child = readAt(parent.content, at)
    children.push(child)
    at += child.raw.length
  }
  return children
}

/** The element, if it is there and has that tag; throws {@link DerError} naming `what`. */
export function expectTag(element: DerElement | undefined, tag: number, what: string): DerElement {
  if (element?.tag !== tag) throw new DerError(`${what} is missing or of the wrong type`)
  return element
}

/** A BOOLEAN: 0x00 or 0xff and nothing else (X.690 §11.1). */
export function readBoolean(element: DerElement): boolean {
  const [value] = element.content
  if (element.content.length !== 1 || (value !== 0 && value !== 0xff)) {
    throw new DerError('a BOOLEAN is neither 00 nor ff')
  }
  return value === 0xff
}

/** An OBJECT IDENTIFIER's content as lower-case hexadecimal, which is as unique as the dotted form. */
export function oidHex(element: DerElement | undefined): string {
  return expectTag(element, tags.oid, 'an object identifier').content.toString('hex')
}

function readAt(bytes: Buffer, at: number): DerElement {
  const tag = bytes[at]
  const first = bytes[at + 1]
  if (tag === undefined || first === undefined) throw new DerError('an element is cut short')
  if ((tag & 0x1f) === 0x1f) throw new DerError('a tag number is above 30')
  let start = at + 2
  let length = first
  if (first >= 0x80) {
    const count = first & 0x7f
    if (count === 0 || count > 3) throw new DerError('a length is indefinite or too great')
    if (start + count > bytes.length) throw new DerError('an element is cut short')
    length = bytes.readUIntBE(start, count)
    if (length < 0x80 || length < 1 << (8 * (count - 1))) {
      throw new DerError('a length is not written in its shortest form')
    }
    start += count
  }
  const end = start + length
  if (end > bytes.length) throw new DerError('an element is cut short')
  return { tag, content: bytes.subarray(start, end), raw: bytes.subarray(at, end) }
}
