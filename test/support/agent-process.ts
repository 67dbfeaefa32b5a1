/** Owns `agent/main.ts` as a process of its own for tests, on loopback addresses of its own. */

import { spawn, type ChildProcess } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { bound } from './bound.ts'
import { root } from './sources.ts'

/** Where an agent of a test keeps and opens things. */
export interface AgentPlace {
  readonly directory: string
  /** Its address, which nothing else uses. */
  readonly address: string
  readonly configPath: string
  readonly tokenPath: string
}

/** One run of the program. */
export interface AgentProcess {
  readonly child: ChildProcess
  /** Standard output so far. */
  readonly output: () => string
  readonly ended: Promise<{ readonly code: number | null; readonly stderr: string }>
}

/** Writes a config; `more` replaces its keys. */
export function placeAgent(directory: string, more: Readonly<Record<string, unknown>>): AgentPlace {
  const address = `127.${randomInt(64, 250)}.${randomInt(1, 250)}.${randomInt(2, 250)}`
  const configPath = join(directory, 'agent.json')
  const tokenPath = join(directory, 'token')
  const config = {
    host: 'h1',
    address,
    joinTokenFile: tokenPath,
    paths: {
      manifests: join(directory, 'mesh.d'),
      policies: join(directory, 'policies.d'),
      state: join(directory, 'state'),
      run: join(directory, 'run'),
    },
    listen: {
      tunnel: `${address}:15008`,
      forwardProxy: `${address}:15002`,
      applications: `${address}:15004`,
      metrics: `${address}:15020`,
      explicit: address,
    },
    // Tests share the machine's network: its rules are not theirs to change.
    capture: 'off',
    drainMs: 1000,
    ...more,
  }
  writeFileSync(configPath, JSON.stringify(config, null, 2))
  return { directory, address, configPath, tokenPath }
}

/** Runs the program with these arguments. */
export function runAgent(words: readonly string[]): AgentProcess {
  const child = spawn(...bound(process.execPath, [join(root, 'agent/main.ts'), ...words]), {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let [output, stderr] = ['', '']
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  const ended = new Promise<{ code: number | null; stderr: string }>((resolve) => {
    child.on('close', (code) => resolve({ code, stderr }))
  })
  return { child, output: () => output, ended }
}
