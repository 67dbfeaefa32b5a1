/** Owns real etcd servers for tests: started on free loopback ports, ended by pid. */

import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { bound } from './bound.ts'
import { EtcdProgram, etcdWords } from './etcd-program.ts'
import { freePort } from './free-port.ts'

const program = '/usr/bin/etcd'

/** Why there is no etcd on this machine, or null when there is one. */
export const noEtcd: string | null = existsSync(program)
  ? null
  : `${program} is not installed (Debian: etcd-server)`

/** A server that can be killed and started again on the same data and ports. */
export class TestEtcd extends EtcdProgram {
  readonly url: string
  readonly #dataDir: string
  readonly #ports: readonly [number, number]
  readonly #options: readonly string[]

  private constructor(
    dataDir: string,
    ports: readonly [number, number],
    options: readonly string[] = [],
  ) {
    super()
    this.#dataDir = dataDir
    this.#ports = ports
    this.#options = options
    const scheme = options.some((option) => option.startsWith('--cert-file')) ? 'https' : 'http'
    this.url = `${scheme}://127.0.0.1:${ports[0]}`
  }

  /** Chooses the ports of a server that is started later, with options such as those for TLS. */
  static async prepare(dataDir: string, options: readonly string[]): Promise<TestEtcd> {
    return new TestEtcd(dataDir, [await freePort(), await freePort()], options)
  }

  /** Starts a server with its data in a directory that exists or not. */
  static async start(dataDir: string): Promise<TestEtcd> {
    const etcd = new TestEtcd(dataDir, [await freePort(), await freePort()])
    await etcd.start()
    return etcd
  }

  /** Starts it again and waits until it serves. */
  async start(): Promise<void> {
    const peer = `http://127.0.0.1:${this.#ports[1]}`
    const place = { dataDirectory: this.#dataDir, client: this.url, peer }
    const words = [
      ...etcdWords({ ...place, cluster: `default=${peer}` }),
      '--heartbeat-interval=20',
      '--election-timeout=200',
      '--logger=zap',
      '--log-level=info',
      ...this.#options,
    ]
    const child = spawn(...bound(program, words), { stdio: ['ignore', 'ignore', 'pipe'] })
    this.runs(child)
    const lines = createInterface({ input: child.stderr })
    await new Promise<void>((resolve, reject) => {
      const heard: string[] = []
      lines.on('line', (line) => {
        heard.push(line)
        if (/serving client traffic (in)?securely/.test(line)) resolve()
      })
      child.on('error', reject)
      child.on('exit', () => reject(new Error(`etcd ended early:\n${heard.join('\n')}`)))
    })
    lines.removeAllListeners('line')
    lines.on('line', () => {})
  }
}
