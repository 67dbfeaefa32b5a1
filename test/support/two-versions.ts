/**
 * Owns two versions of the programs for tests of upgrades: this checkout, and a copy of it with another
 * version and a newer protocol between control process and workers, behind one link that leads to
 * either.
 */

import {
  cpSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { protocol } from '#agent/workers/messages.ts'
import { root } from './sources.ts'

const programs = ['agent', 'cli', 'controller', 'shared', 'package.json'] as const

/** See the header. */
export class TwoVersions {
  readonly #directory: string
  readonly #trees: readonly [string, string]
  #current = 0

  constructor() {
    this.#directory = mkdtempSync(join(tmpdir(), 'hostmesh-versions-'))
    this.#trees = [root, join(this.#directory, 'second')]
    const [first, second] = this.#trees
    for (const name of programs) {
      cpSync(join(first, name), join(second, name), { recursive: true, dereference: true })
    }
    symlinkSync(join(first, 'node_modules'), join(second, 'node_modules'))
    this.#rewrite('package.json', `"version": "${this.version}"`, `"version": "${this.#other}"`)
    const { newest } = protocol
    this.#rewrite(
      'agent/workers/messages.ts',
      /newest: \d+, oldest: \d+/,
      `newest: ${newest + 1}, oldest: ${newest}`,
    )
    this.#link()
  }

  /** Where programs are started from. */
  get root(): string {
    return join(this.#directory, 'current')
  }

  /** The version that is started from now on. */
  get version(): string {
    return this.#current === 0 ? versionOf(root) : this.#other
  }

  /** Lets the link lead to the other version. */
  swap(): void {
    this.#current = 1 - this.#current
    this.#link()
  }

  remove(): void {
    rmSync(this.#directory, { recursive: true, force: true })
  }

  get #other(): string {
    return `${versionOf(root)}-next`
  }

  #link(): void {
    const made = join(this.#directory, 'new')
    symlinkSync(this.#trees[this.#current] ?? root, made)
    renameSync(made, this.root)
  }

  #rewrite(path: string, from: string | RegExp, to: string): void {
    const file = join(this.#trees[1], path)
    const before = readFileSync(file, 'utf8')
    const after = before.replace(from, to)
    if (after === before) throw new Error(`${path} does not say ${String(from)} any more`)
    writeFileSync(file, after)
  }
}

function versionOf(tree: string): string {
  const text = readFileSync(join(tree, 'package.json'), 'utf8')
  return (JSON.parse(text) as { readonly version: string }).version
}
