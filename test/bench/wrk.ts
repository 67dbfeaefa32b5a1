/** Owns the load of Debian's wrk on one core, and the reading of what it prints. */

import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { cores, type Way } from './site.ts'

/** What wrk measured. */
export interface WrkResult {
  readonly requests: number
  readonly perSecond: number
  /** Socket errors and answers outside 2xx and 3xx. */
  readonly errors: number
  readonly p50: string
  readonly p99: string
}

/** Settings of a load. */
export interface WrkSettings {
  readonly way: Way
  /** @default / */
  readonly path?: string
  readonly connections: number
  readonly seconds: number
  /** A Lua script of wrk. */
  readonly script?: string
}

/** Runs wrk once. */
export async function wrk(settings: WrkSettings): Promise<WrkResult> {
  const { way, path = '/', connections, seconds, script } = settings
  const words = ['taskset', '-c', String(cores.load), 'wrk', '-t1', '--latency']
  words.push(`-c${connections}`, `-d${seconds}s`)
  if (script !== undefined) words.push('-s', script)
  const [command = '', ...args] = way.enter(words)
  const url = `http://${way.at.address}:${way.at.port}${path}`
  const { stdout } = await promisify(execFile)(command, [...args, url])
  const number = (pattern: RegExp): number => Number(pattern.exec(stdout)?.[1] ?? 0)
  const socketErrors = /Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/
    .exec(stdout)
    ?.slice(1)
    .reduce((sum, count) => sum + Number(count), 0)
  return {
    requests: number(/(\d+) requests in/),
    perSecond: number(/Requests\/sec:\s+([\d.]+)/),
    errors: (socketErrors ?? 0) + number(/Non-2xx or 3xx responses: (\d+)/),
    p50: /50%\s+(\S+)/.exec(stdout)?.[1] ?? '',
    p99: /99%\s+(\S+)/.exec(stdout)?.[1] ?? '',
  }
}
