/** Owns the list of this project's own files and what each imports, for tests that read the source. */

import { globSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'

/** The checkout's root. */
export const root = dirname(dirname(import.meta.dirname))

/** What an import names: a file of this project, a part of Node, or an npm package. */
export type Import =
  | { readonly kind: 'file'; readonly spelled: string; readonly path: string }
  | { readonly kind: 'node'; readonly spelled: string }
  | { readonly kind: 'package'; readonly spelled: string; readonly name: string }

/** One source file. */
export interface Source {
  /** Relative to the root, as in `agent/tunnel/dial.ts`. */
  readonly path: string
  readonly text: string
  readonly imports: readonly Import[]
}

const ignored = ['node_modules', '.git', '.tap', '.demo', '.bench', '.setup.lock']
const importShape =
  /^(?:import\s+|(?:import|export)\s+[\w*\s{},$]+?\s+from\s+)['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]/gm

/** Every file of the project, relative to the root. */
export function projectFiles(): string[] {
  return globSync('**/*', {
    cwd: root,
    withFileTypes: true,
    exclude: (entry) => ignored.includes(entry.name),
  })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .sort()
}

/** Reads a file of the project. */
export function readProjectFile(path: string): string {
  return readFileSync(join(root, path), 'utf8')
}

/** Every TypeScript file of the product and its tests. */
export function sources(): Source[] {
  return projectFiles()
    .filter((path) => path.endsWith('.ts'))
    .map((path) => {
      const text = readProjectFile(path)
      return { path, text, imports: importsOf(path, text) }
    })
}

function importsOf(path: string, text: string): Import[] {
  return Array.from(text.matchAll(importShape), ([, statement, call]) => {
    const spelled = statement ?? call ?? ''
    if (spelled.startsWith('node:')) return { kind: 'node', spelled }
    if (spelled.startsWith('#')) return { kind: 'file', spelled, path: spelled.slice(1) }
    if (spelled.startsWith('.'))
      return { kind: 'file', spelled, path: join(dirname(path), spelled) }
    const parts = spelled.split('/')
    const name = spelled.startsWith('@') ? parts.slice(0, 2).join('/') : (parts[0] ?? '')
    return { kind: 'package', spelled, name }
  })
}
