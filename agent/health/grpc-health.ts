/**
 * Owns the question of grpc.health.v1, asked once in plain text over a connection of its own. Our own
 * HTTP/2, because grpc-js keeps a connection for ever to a server that takes it and says nothing.
 */

import { connect, type Socket } from 'node:net'
import { Http2Connection } from '#agent/http2/connection.ts'
import { headerField, type HeaderField } from '#agent/http2/header-field.ts'
import type { Clock } from '#agent/platform.ts'
import { messageOf } from '#shared/lifecycle/mesh-error.ts'
import type { CheckResult } from './check-rules.ts'

/** What to ask. */
export interface GrpcHealthQuestion {
  /** An IP address; whoever asks has made sure that it is this machine's. */
  readonly address: string
  readonly port: number
  /** Name of the gRPC service; empty for the server as a whole. */
  readonly service: string
  /** Ends the question at once. */
  readonly signal: AbortSignal
}

/** grpc.health.v1.HealthCheckResponse.ServingStatus. */
const statuses = ['UNKNOWN', 'SERVING', 'NOT_SERVING', 'SERVICE_UNKNOWN'] as const
/** More than this of an answer is no answer. */
const mostBytes = 4096

/** Asks once. Never rejects, and leaves no connection. */
export async function grpcHealth(
  parts: { readonly clock: Clock },
  question: GrpcHealthQuestion,
): Promise<CheckResult> {
  const { address, port, signal } = question
  if (signal.aborted) return { outcome: 'fail', detail: messageOf(signal.reason) }
  const socket = connect({ host: address, port, noDelay: true })
  try {
    return await new Promise<CheckResult>((resolve) => {
      const fail = (detail: string): void => resolve({ outcome: 'fail', detail })
      signal.addEventListener('abort', () => fail(messageOf(signal.reason)), { once: true })
      socket.on('error', (error: NodeJS.ErrnoException) => fail(error.code ?? error.message))
      socket.on('connect', () => ask(parts, socket, question, resolve))
    })
  } finally {
    socket.destroy()
  }
}

function ask(
  { clock }: { readonly clock: Clock },
  socket: Socket,
  question: GrpcHealthQuestion,
  done: (result: CheckResult) => void,
): void {
  const fail = (detail: string): void => done({ outcome: 'fail', detail })
  const owner = {
    onStream() {},
    onSettings() {},
    onGoaway() {},
    onStreamEnd() {},
    onClose: ({ message }: { readonly message: string }) => fail(message),
  }
  const connection = new Http2Connection({ socket, clock, owner }, { role: 'client' })
  const chunks: Buffer[] = []
  let bytes = 0
  const stream = connection.open(requestFields(question), {
    heads: {
      onResponse: (_, { status, fields }) => {
        // A trailers-only answer has its status here.
        if (status !== 200) fail(`status ${status}`)
        else if (isRefusal(fields)) fail(refusal(fields))
      },
      onTrailers: (_, fields) => {
        if (isRefusal(fields)) fail(refusal(fields))
        else done(judge(Buffer.concat(chunks)))
      },
    },
    sink: {
      onData: (chunk) => {
        bytes += chunk.length
        if (bytes > mostBytes) fail(`an answer of more than ${mostBytes} bytes`)
        else chunks.push(chunk)
      },
      onEnd() {},
      onDrain() {},
      onClose: (error) => fail(error?.message ?? 'the answer has no trailers'),
    },
  })
  if (stream === null) fail('the server takes no stream')
  stream?.write(message(question.service))
  stream?.end()
}

function requestFields({ address, port }: GrpcHealthQuestion): readonly HeaderField[] {
  const host = address.includes(':') ? `[${address}]` : address
  return Object.entries({
    ':method': 'POST',
    ':scheme': 'http',
    ':path': '/grpc.health.v1.Health/Check',
    ':authority': `${host}:${port}`,
    'content-type': 'application/grpc',
    te: 'trailers',
    'user-agent': 'hostmesh-health',
  }).map(([name, value]) => headerField(name, value))
}

function valueOf(fields: readonly HeaderField[], name: string): string | undefined {
  return fields.find((field) => field.name === name)?.value
}

function isRefusal(fields: readonly HeaderField[]): boolean {
  const status = valueOf(fields, 'grpc-status')
  return status !== undefined && status !== '0'
}

function refusal(fields: readonly HeaderField[]): string {
  const words = decoded(valueOf(fields, 'grpc-message') ?? '').slice(0, 200)
  return `gRPC status ${valueOf(fields, 'grpc-status')}${words === '' ? '' : `: ${words}`}`
}

/** Messages are percent-encoded; one that is not, is shown as it is. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

/** A length-prefixed HealthCheckRequest: one string in field 1, left out when empty. */
function message(service: string): Buffer {
  const text = Buffer.from(service)
  const body =
    text.length === 0 ? text : Buffer.concat([Buffer.from([10, ...varint(text.length)]), text])
  const prefix = Buffer.alloc(5)
  prefix.writeUInt32BE(body.length, 1)
  return Buffer.concat([prefix, body])
}

/** A length-prefixed HealthCheckResponse: one enum in field 1, which may be left out when it is 0. */
function judge(answer: Buffer): CheckResult {
  const isWhole =
    answer.length >= 5 && answer[0] === 0 && answer.readUInt32BE(1) === answer.length - 5
  const body = answer.subarray(5)
  const value = body.length === 0 ? 0 : body[0] === 8 ? body[1] : undefined
  const status = isWhole && value !== undefined ? statuses[value] : undefined
  if (status === undefined) return { outcome: 'fail', detail: 'no answer of grpc.health.v1' }
  return { outcome: status === 'SERVING' ? 'pass' : 'fail', detail: status }
}

function varint(value: number): readonly number[] {
  return value < 128 ? [value] : [(value & 127) | 128, value >> 7]
}
