/**
 * Owns the reply of the API for applications to a connection that is not taken now, before any request of
 * it was read: a whole HTTP/1.1 response, after which the connection ends. Pure.
 */

/** As it goes over the wire. */
export function unavailableReply(message: string): string {
  const body = `${JSON.stringify({ error: { code: 'unavailable', message, hint: 'try again' } })}\n`
  const fields = `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}`
  return `HTTP/1.1 503 Service Unavailable\r\n${fields}\r\nretry-after: 1\r\nconnection: close\r\n\r\n${body}`
}

const whose = {
  all: '',
  service: ' by one service',
  nobody: ' by programs that are no service: they share what one service has',
} as const

/** The same to a connection that is one too many, and of whom. */
export function oneTooManyReply(of: keyof typeof whose): string {
  return unavailableReply(`too many connections to the API for applications${whose[of]}`)
}
