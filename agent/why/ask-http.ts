/**
 * Owns one plain request over a channel that has just been opened, and the head of its answer. For
 * diagnosis: nothing of the answer's body is kept.
 */

import type { Channel, Clock } from '#agent/platform.ts'

/** How it was answered. */
export type HttpAnswer =
  | {
      readonly kind: 'answered'
      readonly status: number
      /** The mesh's own word, where the mesh answered; empty where the service did. */
      readonly reason: string
      /** The mesh's sentence beside it. */
      readonly detail: string
    }
  | { readonly kind: 'silent'; readonly detail: string }

const maxBytes = 65_536
const timeoutMs = 5000

/** Sends a request without a body and reads until the end of the answer, or for five seconds. */
export function askHttp(
  { channel, clock }: { readonly channel: Channel; readonly clock: Pick<Clock, 'after'> },
  request: { readonly method: string; readonly path: string; readonly host: string },
): Promise<HttpAnswer> {
  const { promise, resolve } = Promise.withResolvers<HttpAnswer>()
  let text = ''
  const timer = clock.after(timeoutMs, () => finish(`no answer within ${timeoutMs / 1000} s`))
  const finish = (problem: string): void => {
    timer.stop()
    channel.sink = { onData() {}, onEnd() {}, onDrain() {}, onClose() {} }
    channel.abort()
    resolve(readAnswer(text) ?? { kind: 'silent', detail: problem })
  }
  channel.sink = {
    onData: (chunk) => {
      text += chunk.toString('latin1')
      if (text.length >= maxBytes || isWhole(text)) finish('the answer is too long')
    },
    onEnd: () => finish('the connection was closed before a whole answer'),
    onDrain: () => {},
    onClose: (error) => finish(error?.message ?? 'the connection was closed'),
  }
  channel.resume()
  const { method, path, host } = request
  channel.writeText(
    `${method} ${path} HTTP/1.1\r\nhost: ${host}\r\nuser-agent: meshctl-why\r\naccept: application/json\r\nconnection: close\r\n\r\n`,
  )
  return promise
}

/** A refusal of the mesh tells its length; of a service's answer the head is enough. */
function isWhole(text: string): boolean {
  const head = headOf(text)
  if (head === null) return false
  if (fieldOf(head, 'x-mesh-reason') === '') return true
  return text.length >= head.length + 4 + Number(fieldOf(head, 'content-length'))
}

function readAnswer(text: string): HttpAnswer | null {
  const head = headOf(text)
  const status = /^HTTP\/1\.[01] ([1-5][0-9]{2})/.exec(text)?.[1]
  if (head === null || status === undefined) return null
  const reason = fieldOf(head, 'x-mesh-reason')
  const detail = reason === '' ? '' : detailIn(text.slice(head.length + 4))
  return { kind: 'answered', status: Number(status), reason, detail }
}

function headOf(text: string): string | null {
  const end = text.indexOf('\r\n\r\n')
  return end < 0 ? null : text.slice(0, end)
}

function fieldOf(head: string, name: string): string {
  const line = head.split('\r\n').find((one) => one.toLowerCase().startsWith(`${name}:`))
  return line === undefined ? '' : line.slice(name.length + 1).trim()
}

function detailIn(body: string): string {
  try {
    const { detail } = JSON.parse(body) as { readonly detail?: unknown }
    return typeof detail === 'string' ? detail : ''
  } catch {
    return ''
  }
}
