/** Owns `controller/main.ts` as a process of its own for tests, ended by its id. */

import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { bound } from './bound.ts'

const main = new URL('../../controller/main.ts', import.meta.url).pathname

/** One run of the program. */
export interface ControllerProcess {
  readonly child: ChildProcess
  /** The fields of the ready line; rejects when the process ends before it. */
  readonly ready: Promise<{
    readonly api: number
    readonly store: number
    readonly metrics: number
  }>
  readonly ended: Promise<{ readonly code: number | null; readonly stderr: string }>
}

/** Starts it with a config file in `directory`; everything listens on free loopback ports. */
export function runController(
  directory: string,
  overrides: Readonly<Record<string, unknown>> = {},
  args: readonly string[] = [],
): ControllerProcess {
  const file = `${directory}/controller.json`
  const free = '127.0.0.1:0'
  writeFileSync(
    file,
    JSON.stringify({
      name: 'c1',
      advertise: '127.0.0.1',
      listen: { api: free, store: free, metrics: free },
      state: `${directory}/state`,
      ...overrides,
    }),
  )
  const child = spawn(...bound(process.execPath, [main, '--config', file, ...args]), {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stderr = ''
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  const ended = new Promise<{ code: number | null; stderr: string }>((resolve) => {
    child.on('close', (code) => resolve({ code, stderr }))
  })
  const ready = new Promise<{ api: number; store: number; metrics: number }>((resolve, reject) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      // Commands speak to people, the controller logs.
      if (!line.startsWith('{')) return
      const fields = JSON.parse(line) as {
        msg: string
        api: number
        store: number
        metrics: number
      }
      if (fields.msg === 'ready') resolve(fields)
    })
    child.on('close', () => reject(new Error(`mesh-controller ended: ${stderr}`)))
  })
  ready.catch(() => {})
  return { child, ready, ended }
}
