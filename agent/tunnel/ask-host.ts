/**
 * Owns the question whether a far host answers, asked by dialling it as a tunnel would and hanging
 * up. Whoever answers is alive, even when it refuses us.
 */

import type { CredentialSource } from '#agent/identity/credentials.ts'
import type { Clock } from '#agent/platform.ts'
import { dialTunnel, type TunnelTarget } from './dial.ts'

const timeoutMs = 1000

/** Asks; `done` is called exactly once, unless what this answers was called before. */
export function askHost(
  parts: { readonly credentials: CredentialSource; readonly clock: Clock },
  target: TunnelTarget,
  done: (answered: boolean) => void,
): () => void {
  return dialTunnel(parts, target, { timeoutMs }, (result) => {
    switch (result.kind) {
      case 'ready':
        result.socket.on('error', () => {}).destroy()
        done(true)
        break
      case 'failed':
        done(!result.isUnreachable)
        break
    }
  })
}
