/**
 * Owns asking one local service how it speaks: what it says by itself, to an HTTP/1.1 request that
 * asks for nothing, to TLS, and to HTTP/2. Addresses of this host only, a few short connections, and
 * nothing is asked of the service that it could act upon.
 */

import { connect, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { Clock } from '#agent/platform.ts'
import { isLocalAddress } from '#shared/http/local-address.ts'
import type { Finding } from '#shared/model/finding.ts'
import { isEnough, isSettingsFrame, judgeAnswer } from './judge-bytes.ts'

/** Where the service listens. */
export interface Place {
  readonly address: string
  readonly port: number
}

/** Asks once; null where nobody listens, or the asking was ended. Never rejects. */
export type Ask = (place: Place, signal: AbortSignal) => Promise<Finding | null>

/** A service that speaks first has begun by then, milliseconds. */
const firstWordMs = 150
/** How long an answer may take, milliseconds. */
const answerMs = 1000
const mostBytes = 16 * 1024

/** Apache and Tomcat say how long they keep a connection only to who asks for that. */
const request = Buffer.from(
  'OPTIONS * HTTP/1.1\r\nHost: localhost\r\nUser-Agent: hostmesh-detect\r\nConnection: keep-alive\r\n\r\n',
)
const http2Preface = Buffer.concat([
  Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
  Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]),
])

/** What came on one connection. */
type Heard =
  | { readonly kind: 'bytes'; readonly bytes: Buffer }
  | { readonly kind: 'ended' }
  | { readonly kind: 'silent' }
  | { readonly kind: 'refused' }

/** Makes an asker that uses the network. */
export function askOver({ clock }: { readonly clock: Clock }): Ask {
  return async (place, signal) => {
    if (!isLocalAddress(place.address)) return null
    const hear = (sends: Buffer | null, ms: number, isDone: (bytes: Buffer) => boolean) =>
      listen(clock, place, { sends, ms, isDone }, signal)
    const ending = new AbortController()
    const first = listen(
      clock,
      place,
      { sends: null, ms: firstWordMs, isDone: (bytes) => bytes.length > 0 },
      AbortSignal.any([signal, ending.signal]),
    )
    const answer = await hear(request, answerMs, isEnough)
    const judged = answer.kind === 'bytes' ? judgeAnswer(answer.bytes) : null
    if (judged?.speech === 'http/1.1') {
      ending.abort()
      return judged
    }
    const word = await first
    if (signal.aborted || (answer.kind === 'refused' && word.kind === 'refused')) return null
    if (word.kind === 'bytes') {
      return { speech: isSettingsFrame(word.bytes) ? 'http/2' : 'server-first' }
    }
    if (judged?.speech === 'http/2' || judged?.speech === 'tcp') return judged
    if (await speaksTls(clock, place, signal)) return { speech: 'tls' }
    if (signal.aborted) return null
    // A server that refuses with a 400, and speaks no TLS, is a plain one.
    if (judged?.speech === 'maybe-tls' && answer.kind === 'bytes' && isHttp(answer.bytes)) {
      return { speech: 'http/1.1' }
    }
    const preface = await hear(http2Preface, answerMs, (bytes) => bytes.length >= 9)
    if (signal.aborted) return null
    if (preface.kind === 'bytes' && isSettingsFrame(preface.bytes)) return { speech: 'http/2' }
    return { speech: answer.kind === 'silent' ? 'silent' : 'tcp' }
  }
}

function isHttp(bytes: Buffer): boolean {
  return bytes.toString('latin1', 0, 7) === 'HTTP/1.'
}

function listen(
  clock: Clock,
  { address, port }: Place,
  wish: {
    readonly sends: Buffer | null
    readonly ms: number
    readonly isDone: (bytes: Buffer) => boolean
  },
  signal: AbortSignal,
): Promise<Heard> {
  return new Promise((resolve) => {
    const socket: Socket = connect({ host: address, port, noDelay: true })
    let bytes = Buffer.alloc(0)
    let isConnected = false
    const finish = (heard: Heard): void => {
      timer.stop()
      signal.removeEventListener('abort', silent)
      socket.destroy()
      resolve(bytes.length > 0 ? { kind: 'bytes', bytes } : heard)
    }
    const silent = (): void => finish({ kind: isConnected ? 'silent' : 'refused' })
    const timer = clock.after(wish.ms, silent)
    signal.addEventListener('abort', silent)
    if (signal.aborted) silent()
    socket.on('connect', () => {
      isConnected = true
      if (wish.sends !== null) socket.write(wish.sends)
    })
    socket.on('data', (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk])
      if (wish.isDone(bytes) || bytes.length > mostBytes) finish({ kind: 'ended' })
    })
    socket.on('end', () => finish({ kind: 'ended' }))
    socket.on('error', () => finish({ kind: isConnected ? 'ended' : 'refused' }))
  })
}

/** Whether a TLS handshake gets anywhere; whose certificate it is, is not the question. */
function speaksTls(clock: Clock, place: Place, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const { address, port } = place
    const socket = connectTls({ host: address, port, rejectUnauthorized: false })
    const finish = (answer: boolean): void => {
      timer.stop()
      signal.removeEventListener('abort', onAbort)
      socket.destroy()
      resolve(answer)
    }
    const onAbort = (): void => finish(false)
    const timer = clock.after(answerMs, () => finish(false))
    signal.addEventListener('abort', onAbort)
    if (signal.aborted) onAbort()
    socket.on('secureConnect', () => finish(true))
    // A server that wants a certificate, or another version, answers with an alert: it speaks TLS.
    socket.on('error', (error: NodeJS.ErrnoException) =>
      finish(/^ERR_SSL_(?!WRONG_VERSION_NUMBER|PACKET_LENGTH)/.test(error.code ?? '')),
    )
    socket.on('end', () => finish(false))
  })
}
