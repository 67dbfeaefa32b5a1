/** Owns SETTINGS (RFC 9113 §6.5): what the peer asks of us, checked, and how we write our own. */

import { type Fault, connectionFault, errorCodes } from './fault.ts'
import { maxWindowBytes } from './frames.ts'

/** The peer's settings that bind us. */
export interface PeerSettings {
  readonly headerTableBytes: number
  readonly maxConcurrentStreams: number
  readonly initialWindowBytes: number
  readonly maxFrameBytes: number
}

/** What holds before the peer has said anything (RFC 9113 §6.5.2), but for streams: be modest. */
export const initialPeerSettings: PeerSettings = {
  headerTableBytes: 4096,
  maxConcurrentStreams: 100,
  initialWindowBytes: 65_535,
  maxFrameBytes: 16_384,
}

/** Setting identifiers (RFC 9113 §6.5.2). */
export const settingIds = {
  headerTableSize: 1,
  enablePush: 2,
  maxConcurrentStreams: 3,
  initialWindowSize: 4,
  maxFrameSize: 5,
  maxHeaderListSize: 6,
} as const

/** Takes a SETTINGS payload, a multiple of six bytes, on top of what held before. */
export function readPeerSettings(
  before: PeerSettings,
  payload: Buffer,
  peer: 'client' | 'server',
): PeerSettings | Fault {
  const settings = { ...before }
  for (let at = 0; at < payload.length; at += 6) {
    const value = payload.readUInt32BE(at + 2)
    switch (payload.readUInt16BE(at)) {
      case settingIds.headerTableSize:
        settings.headerTableBytes = value
        break
      case settingIds.enablePush:
        if (value > (peer === 'client' ? 1 : 0)) return badSetting('ENABLE_PUSH', value)
        break
      case settingIds.maxConcurrentStreams:
        settings.maxConcurrentStreams = value
        break
      case settingIds.initialWindowSize:
        if (value > maxWindowBytes) {
          const detail = `INITIAL_WINDOW_SIZE of ${value}`
          return connectionFault(errorCodes.flowControlError, detail)
        }
        settings.initialWindowBytes = value
        break
      case settingIds.maxFrameSize:
        if (value < 16_384 || value > 0xffffff) return badSetting('MAX_FRAME_SIZE', value)
        settings.maxFrameBytes = value
        break
      default:
        break
    }
  }
  return settings
}

/** Writes a SETTINGS payload. */
export function settingsPayload(entries: readonly (readonly [number, number])[]): Buffer {
  const payload = Buffer.alloc(entries.length * 6)
  entries.forEach(([id, value], index) => {
    payload.writeUInt16BE(id, index * 6)
    payload.writeUInt32BE(value, index * 6 + 2)
  })
  return payload
}

function badSetting(name: string, value: number): Fault {
  return connectionFault(errorCodes.protocolError, `${name} of ${value}`)
}
