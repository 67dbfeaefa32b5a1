/**
 * Owns the controller's offline commands: what an operator does on the controller's own host while
 * the controller is stopped. What each does is in its own room.
 */

import { join } from 'node:path'
import type { Random } from '#shared/lifecycle/clock.ts'
import type { ControllerConfig } from './config.ts'
import { storeFile } from './store/embedded-store.ts'
import { restoreStore } from './store/restore.ts'

/** What commands lean on. */
export interface CommandParts {
  readonly random: Random
  /** Tells the operator what was done. */
  readonly say: (line: string) => void
}

/** Whether the words are a command with what it needs. */
export function isCommand(words: readonly string[]): boolean {
  return words[0] === 'restore' && words.length === 2
}

/** Carries a command out. Throws MeshError. */
export async function runCommand(
  parts: CommandParts,
  config: ControllerConfig,
  words: readonly string[],
): Promise<void> {
  const [, backup = ''] = words
  const file = join(config.state, storeFile)
  const { revision, kept } = await restoreStore(parts, { backup, file })
  parts.say(`${file} is as it was at revision ${revision}`)
  if (kept !== null) parts.say(`what was there before is ${kept}`)
}
