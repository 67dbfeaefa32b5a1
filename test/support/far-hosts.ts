/** Owns what a host's log tells of how it thinks of another one. */

import { readFileSync } from 'node:fs'
import type { DemoHost } from '#cli/demo/demo-host.ts'

/**
 * Since when `host` has had another one out of rotation, milliseconds since the epoch; null where it
 * calls it.
 */
export function lostAt(host: DemoHost, other: DemoHost): number | null {
  // What follows the last line break is no whole line yet.
  const lines = readFileSync(host.path('agent.log'), 'utf8').split('\n').slice(0, -1)
  for (const line of lines.toReversed()) {
    if (!line.includes('far host: ')) continue
    const told = JSON.parse(line) as { time: string | number; host: string; msg: string }
    if (told.host !== other.name) continue
    if (!told.msg.endsWith('-> lost')) return null
    return typeof told.time === 'number' ? told.time : Date.parse(told.time)
  }
  return null
}
