/** Owns the classes of bytes in HTTP/1.1 (RFC 9110 §5, RFC 9112 §2) as tables. Pure. */

export const tab = 0x09
export const lf = 0x0a
export const cr = 0x0d
export const space = 0x20
export const colon = 0x3a

const alphanumeric = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'

function tableOf(text: string): Uint8Array {
  const table = new Uint8Array(256)
  for (let i = 0; i < text.length; i++) table[text.charCodeAt(i)] = 1
  return table
}

/** 1 for tchar (RFC 9110 §5.6.2). */
export const tokenBytes = tableOf(`!#$%&'*+-.^_\`|~${alphanumeric}`)

/** 1 for methods: in other spellings than upper case, services disagree on what is meant. */
export const methodBytes = tableOf('-ABCDEFGHIJKLMNOPQRSTUVWXYZ')

/** 1 for what a field value may hold: HT, SP, VCHAR and obs-text (RFC 9110 §5.5). */
export const valueBytes = new Uint8Array(256)
  .fill(1, space)
  .fill(1, tab, tab + 1)
  .fill(0, 127, 128)

/** 1 for visible ASCII that a request target may hold: no fragment begins; 2 for the backslash. */
export const targetBytes = new Uint8Array(256).fill(1, 0x21, 0x7f)
targetBytes[0x23] = 0
targetBytes[0x5c] = 2

/** 1 for what the name or IPv4 address in an authority is made of. */
export const hostBytes = tableOf(`-._${alphanumeric}`)

/** The value of a hexadecimal digit, 16 for any other byte. */
export const hexValues = new Uint8Array(256).fill(16)
for (let i = 0; i < 16; i++) {
  const digit = i.toString(16)
  hexValues[digit.charCodeAt(0)] = hexValues[digit.toUpperCase().charCodeAt(0)] = i
}

/**
 * Letters in lower case, digits as they are, a hyphen for anything else: names that CGI-like
 * services cannot tell apart become the same.
 */
export const foldedBytes = new Uint8Array(256).fill(0x2d)
for (let i = 0; i < alphanumeric.length; i++) {
  foldedBytes[alphanumeric.charCodeAt(i)] = alphanumeric.toLowerCase().charCodeAt(i)
}

/** Whether a byte is optional white space. */
export function isBlank(byte: number | undefined): boolean {
  return byte === space || byte === tab
}

/** Whether text is a token (RFC 9110 §5.6.2). */
export function isToken(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (tokenBytes[text.charCodeAt(i)] !== 1) return false
  return text.length > 0
}

/** Whether text is decimal digits, 15 at most, so that it is an exact number everywhere. */
export function isDecimal(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code < 0x30 || code > 0x39) return false
  }
  return text.length > 0 && text.length <= 15
}
