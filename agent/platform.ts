/**
 * Owns the ports through which agent code meets the world: time, randomness, sockets, files,
 * commands. Types only, so that pure rooms may name them and tests may replace them; the real ones
 * are made in the composition roots.
 */

import type { Clock, Random } from '#shared/lifecycle/clock.ts'
import type { Reason } from '#shared/model/reason.ts'

export type { Clock, Random } from '#shared/lifecycle/clock.ts'

/** Why a channel ended before both sides had said goodbye. */
export interface ChannelError {
  /** Stable code: a Node error code (`ECONNRESET`), or `H2_<ERROR>` for a reset stream. */
  readonly code: string
  readonly message: string
}

/** Receives what a channel reads. One object serves a channel's whole life or is swapped whole. */
export interface ChannelSink {
  /** Bytes arrived. The chunk belongs to the sink from here on and is never written to again. */
  onData(chunk: Buffer): void
  /** The far side half-closed: no more data. */
  onEnd(): void
  /** Writing may go on after a `write` that answered false. */
  onDrain(): void
  /** The channel is gone, exactly once, after everything else; no error after a clean goodbye. */
  onClose(error: ChannelError | null): void
}

/**
 * A two-way stream of bytes with half-close and backpressure: a TCP socket, or a CONNECT stream of
 * a tunnel. The relay copies between two of these and knows nothing else of them.
 */
export interface Channel {
  /** Who is told; swapped when a pooled channel changes hands. */
  sink: ChannelSink
  /** Bytes. False asks the writer to wait for `onDrain`; the chunk is taken all the same. */
  write(chunk: Buffer): boolean
  /** Latin-1 text, for heads. Same answer as `write`. */
  writeText(text: string): boolean
  /** Bytes that were written and that the kernel, or the credit of a tunnel, has yet to take. */
  readonly waitingBytes: number
  /** Half-closes: what was written still goes out. */
  end(): void
  /** Ends both ways at once, with a reset. Idempotent. */
  abort(): void
  /** Stops `onData`; for a tunnel stream this withholds flow-control credit. */
  pause(): void
  resume(): void
  /** True once `onClose` was called or `abort` was. */
  readonly closed: boolean
  /** True when what carries it takes no new work: finish with it, but do not keep it. */
  readonly retiring?: boolean
}

/** Is told how opening a channel went, exactly once. */
export interface Opener {
  onOpen(channel: Channel): void
  /** Nothing was sent: the call may go elsewhere whatever its method. */
  onOpenFailed(reason: Reason, detail: string): void
}

/** Everything a room may ask of the world. */
export interface Platform {
  readonly clock: Clock
  readonly random: Random
}
