/** Owns how a piece of a message goes out: in as few writes as can be, chunked where asked for. */

import type { Channel } from '#agent/platform.ts'

/** Content up to this is copied into the text around it, to be one write. */
const joinable = 4096

/**
 * Writes content, framed as one chunk (RFC 9112 §7.1) if `chunked`, between two texts of the
 * message; false when the writer should wait.
 */
export function writePiece(
  channel: Channel,
  before: string,
  content: Buffer | null,
  chunked: boolean,
  after: string,
): boolean {
  if (content === null) {
    const text = before + after
    return text === '' || channel.writeText(text)
  }
  const head = chunked ? `${before}${content.length.toString(16)}\r\n` : before
  const tail = chunked ? `\r\n${after}` : after
  if (content.length <= joinable) {
    if (head === '' && tail === '') return channel.write(content)
    return channel.writeText(head + content.toString('latin1') + tail)
  }
  if (head !== '') channel.writeText(head)
  const fits = channel.write(content)
  return tail === '' ? fits : channel.writeText(tail)
}
