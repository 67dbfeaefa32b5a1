/**
 * Owns the reading of the Upgrade field (RFC 9110 §7.8). Other versions of HTTP are taken out: such
 * an upgrade would lead around the reading of requests, and serving HTTP/1.1 is always allowed. Pure.
 */

const token = "[!#$%&'*+\\-.^_`|~0-9A-Za-z]+"
const protocol = new RegExp(`^${token}(?:/${token})?$`)
const otherHttp = /^(?:h2c?|h3|http)(?:$|[-/])/i

/** The protocols a field offers, joined by `, `; null where it is no list of protocols. */
export function protocolsOf(value: string): string | null {
  const offered: string[] = []
  for (const part of value.split(',')) {
    const name = part.replace(/^[ \t]+|[ \t]+$/g, '')
    if (name === '') continue
    if (!protocol.test(name)) return null
    if (!otherHttp.test(name)) offered.push(name)
  }
  return offered.join(', ')
}
