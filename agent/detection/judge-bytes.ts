/** Owns what the first bytes of a service tell about how it speaks. Pure. */

import type { Finding } from '#shared/model/finding.ts'

/** What an answer to an HTTP/1.1 request tells; `maybe-tls` may be a TLS server's kind refusal. */
export type Answered = Finding | { readonly speech: 'maybe-tls' }

/** Judges the beginning of what came back; empty where the service ended the connection at once. */
export function judgeAnswer(bytes: Buffer): Answered {
  const text = bytes.toString('latin1')
  const status = /^HTTP\/1\.[01] ([0-9]{3})/.exec(text)?.[1]
  // nginx, Go and Tomcat answer a plain request on a TLS port with 400, and nginx this one on every port.
  if (status === '400') return { speech: 'maybe-tls' }
  if (status !== undefined) return { speech: 'http/1.1', ...keepAliveIn(text) }
  if (isSettingsFrame(bytes)) return { speech: 'http/2' }
  return isTlsAlert(bytes) || bytes.length === 0 ? { speech: 'maybe-tls' } : { speech: 'tcp' }
}

/** Whether enough is there to judge: a status line with its head, or bytes that are none. */
export function isEnough(bytes: Buffer): boolean {
  const text = bytes.toString('latin1', 0, 16)
  if (bytes.length < 9) return !'HTTP/1.1 '.startsWith(text) && !'HTTP/1.0 '.startsWith(text)
  return !/^HTTP\/1\.[01] /.test(text) || bytes.includes('\r\n\r\n')
}

/** Whether these are the first bytes of an HTTP/2 server: SETTINGS on stream 0 (RFC 9113 §3.4). */
export function isSettingsFrame(bytes: Buffer): boolean {
  return (
    bytes.length >= 9 &&
    bytes.readUIntBE(0, 3) % 6 === 0 &&
    bytes.readUIntBE(0, 3) < 600 &&
    bytes[3] === 4 &&
    (bytes[4] ?? 0) <= 1 &&
    bytes.readUInt32BE(5) === 0
  )
}

function isTlsAlert(bytes: Buffer): boolean {
  return bytes[0] === 0x15 && bytes[1] === 3
}

/**
 * `Connection: close` is of the one answer (RFC 9112 §9.6): nginx refuses `OPTIONS *` with it, and keeps
 * the connections of others.
 */
function keepAliveIn(text: string): { readonly keepAliveMs?: number } {
  const seconds = /^keep-alive:[^\r]*\btimeout=([0-9]{1,5})\b/im.exec(text)?.[1]
  return seconds === undefined ? {} : { keepAliveMs: Number(seconds) * 1000 }
}
