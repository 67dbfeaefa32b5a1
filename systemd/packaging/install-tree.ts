/**
 * Owns the tree of files a host gets: programs, production packages, runtime, units and documents,
 * each at its place. It packs nothing.
 */

import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { completions } from './completions.ts'
import type { Architecture } from './debian-control.ts'
import { manual } from './manual.ts'
import { verbTree } from './verb-tree.ts'

/** What goes where; directories whole. */
const places: readonly (readonly [from: string, to: string, mode?: number])[] = [
  ['agent', 'usr/lib/hostmesh/agent'],
  ['controller', 'usr/lib/hostmesh/controller'],
  ['shared', 'usr/lib/hostmesh/shared'],
  ['cli', 'usr/lib/hostmesh/cli'],
  ['package.json', 'usr/lib/hostmesh/package.json'],
  ['docs', 'usr/share/doc/hostmesh'],
  ['docs/manifest.schema.json', 'usr/share/hostmesh/manifest.schema.json'],
  ['README.md', 'usr/share/doc/hostmesh/README.md'],
  ['ARCHITECTURE.md', 'usr/share/doc/hostmesh/ARCHITECTURE.md'],
  ['CHANGELOG.md', 'usr/share/doc/hostmesh/CHANGELOG.md'],
  ['LICENSE', 'usr/share/doc/hostmesh/copyright'],
  ['systemd/mesh-agent.service', 'usr/lib/systemd/system/mesh-agent.service'],
  ['systemd/mesh-proxy@.service', 'usr/lib/systemd/system/mesh-proxy@.service'],
  ['systemd/mesh-proxy.target', 'usr/lib/systemd/system/mesh-proxy.target'],
  ['systemd/mesh-guard.service', 'usr/lib/systemd/system/mesh-guard.service'],
  ['systemd/mesh-controller.service', 'usr/lib/systemd/system/mesh-controller.service'],
  ['systemd/mesh-wait@.service', 'usr/lib/systemd/system/mesh-wait@.service'],
  ['systemd/mesh-rotation@.service', 'usr/lib/systemd/system/mesh-rotation@.service'],
  ['systemd/debian/hostmesh.sysusers', 'usr/lib/sysusers.d/hostmesh.conf'],
  ['systemd/debian/hostmesh.sysctl', 'usr/lib/sysctl.d/60-hostmesh.conf'],
  ['systemd/debian/hostmesh.tmpfiles', 'usr/lib/tmpfiles.d/hostmesh.conf'],
  ['systemd/debian/hostmesh.preset', 'usr/lib/systemd/system-preset/80-hostmesh.preset'],
  ['systemd/debian/meshctl', 'usr/bin/meshctl', 0o755],
]

/** Parts of `cli` that only a checkout has a use for. */
const leftOut = ['cli/demo', 'cli/setup.mjs', 'cli/debian.mjs', 'cli/debian.d.mts', 'cli/meshctl']

/** Lays the tree; packages come through npm, for the architecture asked for. */
export function installTree(settings: {
  readonly root: string
  readonly tree: string
  readonly version: string
  readonly architecture: Architecture
}): void {
  const { root, tree, architecture, version } = settings
  for (const [from, to, mode = 0o644] of places) {
    const target = join(tree, to)
    mkdirSync(dirname(target), { recursive: true })
    const filter = (path: string): boolean => !leftOut.some((out) => path === join(root, out))
    cpSync(join(root, from), target, { recursive: true, filter })
    if (lstatSync(target).isFile()) chmodSync(target, mode)
  }
  for (const [to, bytes] of made(version)) {
    mkdirSync(dirname(join(tree, to)), { recursive: true })
    writeFileSync(join(tree, to), bytes, { mode: 0o644 })
  }
  const library = join(tree, 'usr/lib/hostmesh')
  cpSync(join(root, 'package-lock.json'), join(library, 'package-lock.json'))
  const parts = ['--omit=dev', '--include=optional', '--os=linux', `--cpu=${architecture}`]
  // Links to programs of packages are for a checkout.
  const words = ['ci', ...parts, '--ignore-scripts', '--no-bin-links']
  execFileSync('npm', [...words, '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: library,
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  mkdirSync(join(library, 'bin'))
  const runtime = join(library, 'node_modules', `node-linux-${architecture}`)
  renameSync(join(runtime, 'bin/node'), join(library, 'bin/node'))
  chmodSync(join(library, 'bin/node'), 0o755)
  rmSync(runtime, { recursive: true })
  rmSync(join(library, 'package-lock.json'))
  rmSync(join(library, 'node_modules/.package-lock.json'))
}

/** Files that are made from the command line and the settings there are. */
function made(version: string): readonly (readonly [to: string, bytes: string | Buffer])[] {
  const verbs = verbTree()
  const { bash, zsh, fish } = completions(verbs)
  const pages = Object.entries(manual(verbs, version)).map(
    ([name, text]) => [`usr/share/man/man${name.at(-1)}/${name}.gz`, gzipSync(text)] as const,
  )
  return [
    ['usr/share/bash-completion/completions/meshctl', bash],
    ['usr/share/zsh/vendor-completions/_meshctl', zsh],
    ['usr/share/fish/vendor_completions.d/meshctl.fish', fish],
    ...pages,
  ]
}

/** The bytes of all files of a tree. */
export function treeBytes(tree: string): number {
  return readdirSync(tree, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, { parentPath, name }) => sum + lstatSync(join(parentPath, name)).size, 0)
}
