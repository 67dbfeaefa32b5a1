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
  'not-http': answer(400, 'Bad Request', 'caller'),
  'caller-aborted': answer(499, 'Client Closed Request', 'caller'),
  'unknown-service': answer(404, 'Not Found', 'caller'),
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
  'bad-response': answer(502, 'Bad Gateway', 'service'),
  'response-timeout': answer(504, 'Gateway Timeout', 'service'),
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

/** Settings of a reply. */
export interface ReplySettings {
  readonly reason: Reason
  /** @default the reason's own */
  readonly status?: number
  readonly detail: string
  readonly requestId: string
  readonly close: boolean
  /** HEAD gets no body. */
  readonly method: string
}

/** Writes a whole reply: head and a short JSON body. */
export function writeReply(settings: ReplySettings): string {
  const { reason, detail, requestId, close, method } = settings
  const { phrase, blame, status: usual } = answers[reason]
  const status = settings.status ?? usual
  const body = `${JSON.stringify({ reason, blame, detail: latin1(detail), requestId })}\n`
  const head =
    `HTTP/1.1 ${status} ${status === usual ? phrase : 'Refused'}\r\n` +
    `content-type: application/json\r\ncontent-length: ${body.length}\r\n` +
    `x-mesh-reason: ${reason}\r\nx-request-id: ${requestId}\r\n` +
    `${close ? 'connection: close\r\n' : ''}\r\n`
  return method === 'HEAD' ? head : head + body
}

/** Heads and bodies are written as latin-1; nothing else may get in. */
function latin1(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?')
}
