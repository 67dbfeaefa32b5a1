/**
 * Owns one etcd process of a test, wherever it runs: what every one of them is told, and the ways in
 * which tests take it away.
 */

import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'

/** Where an etcd keeps its data, and where others reach it. */
export interface EtcdPlace {
  readonly dataDirectory: string
  /** URL clients are told. */
  readonly client: string
  /** URL of its peers' way to it. */
  readonly peer: string
  /** URLs it listens at for clients. @default `client` */
  readonly listen?: string
  /** As in `e1=http://…,e2=http://…`. */
  readonly cluster: string
}

/** Its command line. Tests need no data that outlives the machine. */
export function etcdWords(place: EtcdPlace): readonly string[] {
  const { dataDirectory, client, peer, listen = client, cluster } = place
  return [
    `--data-dir=${dataDirectory}`,
    `--listen-client-urls=${listen}`,
    `--advertise-client-urls=${client}`,
    `--listen-peer-urls=${peer}`,
    `--initial-advertise-peer-urls=${peer}`,
    `--initial-cluster=${cluster}`,
    '--unsafe-no-fsync',
  ]
}

/** A process that may be gone, hang, and come back. */
export class EtcdProgram {
  #process: ChildProcess | null = null

  /** The process's id; undefined while there is none. */
  get pid(): number | undefined {
    return this.#process?.pid
  }

  /** Takes over a process that has been started. */
  protected runs(child: ChildProcess): void {
    this.#process = child
  }

  /** Ends it at once, as a crash would. */
  async kill(): Promise<void> {
    const child = this.#process
    this.#process = null
    if (child === null || child.exitCode !== null) return
    const gone = once(child, 'exit')
    child.kill('SIGKILL')
    await gone
  }

  /** Stops it from running without closing anything, as a hanging machine would. */
  freeze(): void {
    this.#process?.kill('SIGSTOP')
  }

  /** Lets it run again. */
  thaw(): void {
    this.#process?.kill('SIGCONT')
  }
}
