/**
 * Owns which octets may stand where in a head (RFC 9110 §5.5 and §5.6.2), as tables. Pure. Texts end
 * with CRLF, which may stand nowhere, so that no loop needs to look for the end.
 */

const tokens = new Uint8Array(256)
for (const char of "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
  tokens[char.charCodeAt(0)] = 1
}
const targets = new Uint8Array(256).fill(1, 0x21, 0x7f)
const values = new Uint8Array(256).fill(1, 0x20)
values[0x7f] = 0
values[0x09] = 1

/** Index of the first character from `at` on that cannot stand in a token. */
export function afterToken(text: string, at: number): number {
  let end = at
  while (tokens[text.charCodeAt(end)] === 1) end++
  return end
}

/** Index of the first character from `at` on that cannot stand in a request target. */
export function afterTarget(text: string, at: number): number {
  let end = at
  while (targets[text.charCodeAt(end)] === 1) end++
  return end
}

/** Index of the first character from `at` on that cannot stand in a field's value. */
export function afterValue(text: string, at: number): number {
  let end = at
  while (values[text.charCodeAt(end)] === 1) end++
  return end
}

/** Index of the first character from `at` on that is neither space nor tab. */
export function afterBlanks(text: string, at: number): number {
  let end = at
  while (isBlank(text.charCodeAt(end))) end++
  return end
}

/** Index behind the last character before `to` that is neither space nor tab. */
export function beforeBlanks(text: string, from: number, to: number): number {
  let end = to
  while (end > from && isBlank(text.charCodeAt(end - 1))) end--
  return end
}

/** Text without spaces and tabs at its ends, and without anything else that `trim` would take. */
export function trimBlanks(text: string, from: number, to: number): string {
  const end = beforeBlanks(text, from, to)
  return text.slice(Math.min(afterBlanks(text, from), end), end)
}

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09
}
