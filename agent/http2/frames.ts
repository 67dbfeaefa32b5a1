/**
 * Owns the shapes of frames (RFC 9113 §4 and §6): types, flags, and what a frame header alone must
 * obey. Pure; streams and their states are not its business.
 */

import { type Fault, connectionFault, errorCodes, streamFault } from './fault.ts'

/** Frame types. */
export const frameTypes = {
  data: 0,
  headers: 1,
  priority: 2,
  rstStream: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const

/** Frame flags. */
export const flags = {
  endStream: 0x1,
  ack: 0x1,
  endHeaders: 0x4,
  padded: 0x8,
  priority: 0x20,
} as const

/** Bytes of a frame header. */
export const headerBytes = 9

/** What a client says first (RFC 9113 §3.4). */
export const clientPreface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1')

/** Largest window, and the largest increment of one (RFC 9113 §6.9). */
export const maxWindowBytes = 0x7fffffff

const noStream = 'on stream 0'
const onlyConnection = 'must be on stream 0'

/** Judges a frame by its header; unknown types pass (RFC 9113 §4.1, §5.5). */
export function checkFrameHeader(
  type: number,
  frameFlags: number,
  streamId: number,
  length: number,
): Fault | null {
  switch (type) {
    case frameTypes.data:
    case frameTypes.headers:
    case frameTypes.continuation:
    case frameTypes.pushPromise:
      return streamId === 0 ? protocolFault(type, noStream) : null
    case frameTypes.priority:
      if (streamId === 0) return protocolFault(type, noStream)
      return length === 5 ? null : streamFault(errorCodes.frameSizeError, 'PRIORITY of wrong size')
    case frameTypes.rstStream:
      if (streamId === 0) return protocolFault(type, noStream)
      return length === 4 ? null : sizeFault(type)
    case frameTypes.windowUpdate:
      return length === 4 ? null : sizeFault(type)
    case frameTypes.settings: {
      if (streamId !== 0) return protocolFault(type, onlyConnection)
      const isAck = (frameFlags & flags.ack) !== 0
      return length % 6 === 0 && !(isAck && length > 0) ? null : sizeFault(type)
    }
    case frameTypes.ping:
      if (streamId !== 0) return protocolFault(type, onlyConnection)
      return length === 8 ? null : sizeFault(type)
    case frameTypes.goaway:
      if (streamId !== 0) return protocolFault(type, onlyConnection)
      return length >= 8 ? null : sizeFault(type)
    default:
      return null
  }
}

/** A frame type's name. */
export function frameName(type: number): string {
  switch (type) {
    case frameTypes.data:
      return 'DATA'
    case frameTypes.headers:
      return 'HEADERS'
    case frameTypes.priority:
      return 'PRIORITY'
    case frameTypes.rstStream:
      return 'RST_STREAM'
    case frameTypes.settings:
      return 'SETTINGS'
    case frameTypes.pushPromise:
      return 'PUSH_PROMISE'
    case frameTypes.ping:
      return 'PING'
    case frameTypes.goaway:
      return 'GOAWAY'
    case frameTypes.windowUpdate:
      return 'WINDOW_UPDATE'
    case frameTypes.continuation:
      return 'CONTINUATION'
    default:
      return `frame of type ${type}`
  }
}

/** A frame in a place where it must not be. */
export function protocolFault(type: number, why: string): Fault {
  return connectionFault(errorCodes.protocolError, `${frameName(type)} ${why}`)
}

function sizeFault(type: number): Fault {
  return connectionFault(errorCodes.frameSizeError, `${frameName(type)} of wrong size`)
}

/**
 * The field block within a HEADERS payload: without padding (RFC 9113 §6.2) and without the
 * priority fields, of which only a dependency on itself matters (RFC 7540 §5.3.1).
 */
export function fieldBlockOf(
  payload: Buffer,
  frameFlags: number,
  streamId: number,
): { readonly block: Buffer; readonly dependsOnItself: boolean } | Fault {
  let start = 0
  let end = payload.length
  if ((frameFlags & flags.padded) !== 0) {
    start = 1
    end -= payload[0] ?? 0
  }
  let dependsOnItself = false
  if ((frameFlags & flags.priority) !== 0) {
    if (start + 5 > payload.length) return sizeFault(frameTypes.headers)
    dependsOnItself = (payload.readUInt32BE(start) & maxWindowBytes) === streamId
    start += 5
  }
  return end < start
    ? protocolFault(frameTypes.headers, 'is padded beyond its end')
    : { block: payload.subarray(start, end), dependsOnItself }
}
