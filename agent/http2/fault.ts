/**
 * Owns HTTP/2's error codes (RFC 9113 §7) and the fault: what a peer did wrong, and whether its
 * stream or the whole connection pays for it.
 */

/** Every code of RFC 9113 §7. */
export const errorCodes = {
  noError: 0x0,
  protocolError: 0x1,
  internalError: 0x2,
  flowControlError: 0x3,
  settingsTimeout: 0x4,
  streamClosed: 0x5,
  frameSizeError: 0x6,
  refusedStream: 0x7,
  cancel: 0x8,
  compressionError: 0x9,
  connectError: 0xa,
  enhanceYourCalm: 0xb,
  inadequateSecurity: 0xc,
  http11Required: 0xd,
} as const

const names = [
  'NO_ERROR',
  'PROTOCOL_ERROR',
  'INTERNAL_ERROR',
  'FLOW_CONTROL_ERROR',
  'SETTINGS_TIMEOUT',
  'STREAM_CLOSED',
  'FRAME_SIZE_ERROR',
  'REFUSED_STREAM',
  'CANCEL',
  'COMPRESSION_ERROR',
  'CONNECT_ERROR',
  'ENHANCE_YOUR_CALM',
  'INADEQUATE_SECURITY',
  'HTTP_1_1_REQUIRED',
] as const

/** A code's name; one that nobody registered keeps its number. */
export function errorName(code: number): string {
  return names[code] ?? `UNKNOWN_${code}`
}

/** A code as channels and logs show it, such as `H2_CANCEL`. */
export function errorText(code: number): string {
  return `H2_${errorName(code)}`
}

/** A breach of the protocol by the peer. */
export interface Fault {
  /** What it ends (RFC 9113 §5.4). */
  readonly scope: 'connection' | 'stream'
  readonly code: number
  readonly detail: string
}

/** A fault that ends the connection (RFC 9113 §5.4.1). */
export function connectionFault(code: number, detail: string): Fault {
  return { scope: 'connection', code, detail }
}

/** A fault that ends one stream (RFC 9113 §5.4.2). */
export function streamFault(code: number, detail: string): Fault {
  return { scope: 'stream', code, detail }
}
