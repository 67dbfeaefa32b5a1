/**
 * Owns what a caller is told when the mesh itself answers: one table from reason to status and
 * blame, and one way to write the reply. The same reason stands in the header, the body, the access
 * line and the metric.
 */

import type { Blame, Reason } from '#shared/model/reason.ts'

interface Answer {
  readonly status: number
  readonly phrase: string
  readonly blame: Blame
}

const answer = (status: number, phrase: string, blame: Blame): Answer => ({ status, phrase, blame })

/** Every reason with the status it is told by. */
export const answers: Readonly<Record<Reason, Answer>> = {
  ok: answer(200, 'OK', 'none'),
  'bad-request': answer(400, 'Bad Request', 'caller'),
  'head-too-large': answer(431, 'Request Header Fields Too Large', 'caller'),
  'head-timeout': answer(408, 'Request Timeout', 'caller'),
  'body-timeout': answer(408, 'Request Timeout', 'caller'),
  'method-refused': answer(405, 'Method Not Allowed', 'caller'),
  'upgrade-refused': answer(400, 'Bad Request', 'caller'),
  'ambiguous-request': answer(400, 'Bad Request', 'caller'),
  'not-http': answer(400, 'Bad Request', 'caller'),
  'caller-aborted': answer(499, 'Client Closed Request', 'caller'),
  'unknown-service': answer(404, 'Not Found', 'caller'),
  'not-discovered': answer(503, 'Service Unavailable', 'mesh'),
  'not-mesh-name': answer(403, 'Forbidden', 'caller'),
  'no-instances': answer(503, 'Service Unavailable', 'service'),
  'policy-denied': answer(403, 'Forbidden', 'caller'),
  'no-credential': answer(503, 'Service Unavailable', 'mesh'),
  'tunnel-failed': answer(503, 'Service Unavailable', 'mesh'),
  'tunnel-refused-identity': answer(503, 'Service Unavailable', 'mesh'),
  draining: answer(503, 'Service Unavailable', 'mesh'),
  overloaded: answer(503, 'Service Unavailable', 'mesh'),
  'tunnel-lost': answer(502, 'Bad Gateway', 'mesh'),
  'instance-refused': answer(503, 'Service Unavailable', 'service'),
  'instance-aborted': answer(502, 'Bad Gateway', 'service'),
  'instance-aborted-twice': answer(502, 'Bad Gateway', 'service'),
  'bad-response': answer(502, 'Bad Gateway', 'service'),
  'response-timeout': answer(504, 'Gateway Timeout', 'service'),
  'external-failed': answer(503, 'Service Unavailable', 'service'),
}

/** The status of a reason. */
export function statusOf(reason: Reason): number {
  return answers[reason].status
}

/** Reasons with which a peer agent says that nothing of the request has reached the instance. */
export const neverReached: ReadonlySet<string> = new Set<Reason>([
  'instance-refused',
  'draining',
  'overloaded',
])

/** What a reply says. */
export interface ReplySettings {
  readonly reason: Reason
  /** One sentence: what, which rule, what to do. */
  readonly detail: string
  readonly requestId: string
  readonly close: boolean
  /** HEAD gets no body. */
  readonly method: string
  /** The caller's Accept field; whoever would rather read gets plain text. */
  readonly accept: string
}

/** Writes a whole reply: head and a short body, JSON unless the caller asks for text. */
export function writeReply(settings: ReplySettings): string {
  const { reason, requestId, close, method, accept } = settings
  const { status, phrase, blame } = answers[reason]
  const detail = ascii(settings.detail)
  const isText = /\btext\/(?:plain|html)\b/i.test(accept) && !/\bjson\b/i.test(accept)
  const body = isText
    ? `${reason}: ${detail}\nat fault: ${blame}\nrequest: ${requestId}\n`
    : `${JSON.stringify({ reason, blame, detail, requestId })}\n`
  const head =
    `HTTP/1.1 ${status} ${phrase}\r\n` +
    `content-type: ${isText ? 'text/plain' : 'application/json'}\r\n` +
    `content-length: ${body.length}\r\n` +
    `x-mesh-reason: ${reason}\r\nx-request-id: ${requestId}\r\n` +
    `${reason === 'method-refused' ? allow : ''}${close ? 'connection: close\r\n' : ''}\r\n`
  return method === 'HEAD' ? head : head + body
}

/** RFC 9110 §15.5.6: a 405 names what is allowed. */
const allow = 'allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n'

/** A reply's length is counted in characters, so nothing but single bytes may get in. */
function ascii(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?')
}
