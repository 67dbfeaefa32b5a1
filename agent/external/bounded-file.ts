/**
 * Owns the reading of a file that a manifest names: whatever stands there, a pipe, a device or a file of
 * gigabytes, costs one bounded read, and is judged by its open descriptor.
 */

import { constants, open } from 'node:fs/promises'

/** The text of a regular file of at most `mostBytes`. @throws Error saying what stands there instead */
export async function readBounded(path: string, mostBytes: number): Promise<string> {
  // Without waiting: a pipe that nobody writes to would never open.
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    const stats = await handle.stat()
    if (!stats.isFile()) throw new Error('it is no regular file')
    // What it says of its size may be wrong a moment later, and is 0 for files of the kernel's.
    const room = Buffer.alloc(Math.min(stats.size, mostBytes) + 1)
    let length = 0
    while (length < room.length) {
      const { bytesRead } = await handle.read(room, length, room.length - length, length)
      if (bytesRead === 0) break
      length += bytesRead
    }
    if (length > mostBytes) throw new Error(`it has more than ${mostBytes} bytes`)
    if (length > stats.size) throw new Error('it is being written')
    return room.toString('latin1', 0, length)
  } finally {
    await handle.close()
  }
}
