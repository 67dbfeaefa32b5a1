/** Enforces the rules about files: headers, sizes, names, and that the project is self-contained. */

import { readdirSync } from 'node:fs'
import t from 'tap'
import { topLevel } from '#test/support/house-law.ts'
import { projectFiles, readProjectFile, root, sources } from '#test/support/sources.ts'

const headerShape = /^(?:#!.*\n)?\/\*\*\n?([\s\S]*?)\*\//
const longest = 400

const owners = sources().filter(({ path }) => !path.endsWith('.test.ts'))

t.test('every file, tests apart, says in a short header what it owns', async (t) => {
  const found = owners.flatMap(({ path, text }) => {
    const header = headerShape.exec(text)?.[1]
    if (header === undefined) return [`${path}: no header`]
    const lines = header.trimEnd().split('\n').length
    return lines > 8 ? [`${path}: a header of ${lines} lines`] : []
  })
  t.same(found, [])
})

t.test('a file past 400 lines, tests apart, says why in its header', async (t) => {
  const found = owners.filter(({ text }) => {
    const lines = text.split('\n').length
    return lines > longest && !/\b(lines|longer)\b/i.test(headerShape.exec(text)?.[1] ?? '')
  })
  t.same(
    found.map(({ path }) => path),
    [],
  )
})

t.test('file names are kebab-case', async (t) => {
  const name = /^[a-z0-9]+(-[a-z0-9]+)*(\.test|\.d)?\.m?ts$/
  t.same(
    sources()
      .map(({ path }) => path)
      .filter((path) => !name.test(path.split('/').at(-1) ?? '')),
    [],
  )
})

t.test('nothing but the agreed names stands at the top', async (t) => {
  const names = readdirSync(root).filter((name) => !name.startsWith('.') && name !== 'node_modules')
  t.same(
    names.filter((name) => !(topLevel as readonly string[]).includes(name)),
    [],
  )
})

t.test('no file names a package registry or the place it was written in', async (t) => {
  const registries = [
    ['registry', 'npmjs', 'org'],
    ['registry', 'yarnpkg', 'com'],
    ['deb', 'debian', 'org'],
    ['pypi', 'org'],
    ['proxy', 'golang', 'org'],
  ].map((parts) => parts.join('.'))
  const places = [
    ['', 'work', 'main'],
    ['', 'work', 'shared'],
    ['..', 'shared'],
  ].map((parts) => parts.join('/'))
  const found = projectFiles().flatMap((path) => {
    const text = readProjectFile(path)
    return [...registries, ...places]
      .filter((words) => text.includes(words))
      .map((words) => `${path}: ${words}`)
  })
  t.same(found, [])
})

t.test('directories of tests outlive what their test began', async (t) => {
  const owner = 'test/support/test-directory.ts'
  const byItself = /\bt\.testdir\(/
  const found = sources().filter(({ path, text }) => path !== owner && byItself.test(text))
  t.same(
    found.map(({ path }) => path).filter((path) => path !== 'test/law/files.test.ts'),
    [],
    `see ${owner}`,
  )
})
