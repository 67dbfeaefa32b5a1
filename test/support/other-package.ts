/** Owns packages of other versions for tests of upgrades, made from one package by a few changes. */

import { execFileSync } from 'node:child_process'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** What makes another version. */
export interface OtherVersion {
  readonly version: string
  /** By path below the package's programs: what is replaced, and by what. */
  readonly changes: Readonly<Record<string, readonly [from: string | RegExp, to: string]>>
}

/** Makes the package beside the one it is made from, and answers its path. */
export function otherPackage(deb: string, { version, changes }: OtherVersion): string {
  const tree = `${deb}.${version}`
  const made = `${tree}.deb`
  rmSync(tree, { recursive: true, force: true })
  execFileSync('dpkg-deb', ['--raw-extract', deb, tree])
  const all: OtherVersion['changes'] = {
    '../../../DEBIAN/control': [/^Version: .*$/m, `Version: ${version}`],
    'package.json': [/"version": "[^"]*"/, `"version": "${version}"`],
    ...changes,
  }
  for (const [path, [from, to]] of Object.entries(all)) {
    const file = join(tree, 'usr/lib/hostmesh', path)
    const before = readFileSync(file, 'utf8')
    const after = before.replace(from, to)
    if (after === before) throw new Error(`${path} does not say ${String(from)} any more`)
    writeFileSync(file, after)
  }
  execFileSync('dpkg-deb', ['--root-owner-group', '-Znone', '--build', tree, made])
  rmSync(tree, { recursive: true })
  return made
}
