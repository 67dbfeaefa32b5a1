/** Owns the running of the demo as a newcomer would, for tests of what it leaves and answers. */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { root } from './sources.ts'

/** How a demo ended. */
export interface DemoRun {
  readonly code: number | null
  /** Standard output: the JSON result and nothing else. */
  readonly out: string
  /** The end of the story. */
  readonly story: string
  /** Files and namespaces of this run that are still there. */
  readonly leftovers: readonly string[]
}

/** Runs `main.ts --once --json` with more words, under a command such as `setpriv …`. */
export async function runDemo(settings: {
  readonly words: readonly string[]
  readonly under?: readonly string[]
}): Promise<DemoRun> {
  const main = join(root, 'cli/demo/main.ts')
  const words = [process.execPath, main, '--once', '--json', ...settings.words]
  // `env -i` also drops what the test runner tells every program it knows to be Node.
  const clean = ['-i', `PATH=${process.env['PATH']}`, `HOME=${tmpdir()}`]
  const child = spawn('env', [...clean, ...(settings.under ?? []), ...words], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const [out, story] = [text(child.stdout), text(child.stderr)]
  const [code] = (await once(child, 'close')) as [number | null]
  const mine = new RegExp(`^hostmesh-(?:demo-)?${child.pid}-`)
  const leftovers = [tmpdir(), '/run/netns'].flatMap(listed).filter((name) => mine.test(name))
  return { code, out: await out, story: (await story).slice(-3000), leftovers }
}

function listed(directory: string): string[] {
  try {
    return readdirSync(directory)
  } catch {
    return []
  }
}
