/** Owns waiting for the end of a connection, however it ends: `events.once` rejects where it is reset. */

import type { EventEmitter } from 'node:events'

/** Resolves when it is closed. */
export function closed(connection: EventEmitter): Promise<void> {
  return new Promise((resolve) => {
    connection.on('error', () => {}).once('close', () => resolve())
  })
}
