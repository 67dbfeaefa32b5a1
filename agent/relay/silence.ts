/** Owns what becomes of channels that nobody listens to any more. */

import type { Channel, ChannelSink } from '#agent/platform.ts'

/** Hears nothing. */
export const nobody: ChannelSink = { onData() {}, onEnd() {}, onDrain() {}, onClose() {} }

/** Ends a channel at once, unheard. */
export function discard(channel: Channel): void {
  channel.sink = nobody
  channel.abort()
}
