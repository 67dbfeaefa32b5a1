/**
 * Owns snapshots of the embedded store as etcd sends them: a copy of the file in pieces, then its
 * SHA-256. The store is held up while it is copied, not while the copy is sent. The copy stands beside the file for as long as it is read, without a name, so that a
 * crash leaves at most one unfinished copy, which the next start removes.
 */

import { createHash } from 'node:crypto'
import { readdirSync, rmSync } from 'node:fs'
import { open, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { Random } from '#shared/lifecycle/clock.ts'
import type { SnapshotResponse } from '#shared/store/wire.ts'
import { refusals } from './refusals.ts'

/** etcd's own size of a piece is half of it; gRPC's limit is far above. */
const pieceBytes = 64 * 1024
const suffix = '.snapshot-'

/** See the header. */
export class Snapshots {
  readonly #random: Random
  readonly #file: string
  #running = false

  /** `file` is the store's own. */
  constructor(parts: { readonly random: Random }, settings: { readonly file: string }) {
    this.#random = parts.random
    this.#file = settings.file
    const directory = dirname(settings.file)
    for (const name of readdirSync(directory)) {
      if (!name.startsWith(basename(settings.file) + suffix)) continue
      rmSync(join(directory, name), { force: true })
    }
  }

  /** One at a time: each needs as much disk as the store. */
  async *take(copyTo: (path: string) => Promise<void>): AsyncGenerator<SnapshotResponse> {
    if (this.#running) throw refusals.snapshotRunning()
    this.#running = true
    try {
      const path = this.#file + suffix + this.#random.bytes(6).toString('hex')
      try {
        await (await open(path, 'wx', 0o600)).close()
        await copyTo(path)
        yield* pieces(path)
      } finally {
        await rm(path, { force: true })
      }
    } finally {
      this.#running = false
    }
  }
}

async function* pieces(path: string): AsyncGenerator<SnapshotResponse> {
  const file = await open(path, 'r')
  try {
    await rm(path, { force: true })
    const hash = createHash('sha256')
    let { size: left } = await file.stat()
    while (left > 0) {
      const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(Math.min(left, pieceBytes)))
      if (bytesRead === 0) throw new Error(`${path} ended early`)
      const blob = buffer.subarray(0, bytesRead)
      hash.update(blob)
      left -= bytesRead
      yield { remaining_bytes: String(left), blob }
    }
    yield { remaining_bytes: '0', blob: hash.digest() }
  } finally {
    await file.close()
  }
}
