/** Owns which octets may stand where in a head (RFC 9110 §5.5 and §5.6.2), as one table. Pure. */

const tokenOctet = 1
const targetOctet = 2
const valueOctet = 4

const classes = new Uint8Array(256)
for (let code = 0x21; code <= 0x7e; code++) classes[code] = targetOctet | valueOctet
for (let code = 0x80; code <= 0xff; code++) classes[code] = valueOctet
classes[0x09] = classes[0x20] = valueOctet
for (const char of "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
  const code = char.charCodeAt(0)
  classes[code] = (classes[code] as number) | tokenOctet
}

/** Index of the first character from `at` on that cannot stand in a token. */
export function afterToken(text: string, at: number): number {
  return after(text, at, tokenOctet)
}

/** Index of the first character from `at` on that cannot stand in a request target. */
export function afterTarget(text: string, at: number): number {
  return after(text, at, targetOctet)
}

/** Index of the first character from `at` on that cannot stand in a field's value. */
export function afterValue(text: string, at: number): number {
  return after(text, at, valueOctet)
}

/** Whether a character is a space or a tab. */
export function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09
}

/** Text without spaces and tabs at its ends, and without anything else that `trim` would take. */
export function trimBlanks(text: string, from: number, to: number): string {
  let start = from
  let end = to
  while (start < end && isBlank(text.charCodeAt(start))) start++
  while (end > start && isBlank(text.charCodeAt(end - 1))) end--
  return text.slice(start, end)
}

function after(text: string, from: number, wanted: number): number {
  const { length } = text
  let at = from
  while (at < length && ((classes[text.charCodeAt(at)] as number) & wanted) !== 0) at++
  return at
}
