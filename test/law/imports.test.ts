/** Enforces the law of imports of CONTRIBUTING.md; its data is test/support/house-law.ts. */

import t from 'tap'
import {
  agentRooms,
  agentSeams,
  compositionRoots,
  pureRooms,
  roomOf,
  sharedRooms,
  sharedSeams,
} from '#test/support/house-law.ts'
import { type Import, type Source, sources } from '#test/support/sources.ts'

const has = (list: readonly string[], item: string): boolean => list.includes(item)
const programs = ['agent', 'controller', 'cli', 'shared']
const product = sources().filter(({ path }) => has(programs, path.split('/')[0] ?? ''))

/** Why `source` may not import a file, or an empty string. */
function breach(source: Source, target: string): string {
  const [from, to] = [roomOf(source.path), roomOf(target)]
  const [fromTop = '', toTop = ''] = [from.split('/')[0], to.split('/')[0]]
  if (from === to && from !== source.path) return ''
  if (fromTop === 'shared') {
    if (toTop !== 'shared') return `shared imports no program`
    if (from === 'shared/model') return 'shared/model imports nothing'
    if (to === 'shared/model') return ''
    if (has(pureRooms, from)) return 'a pure room imports shared/model only'
    if (has(sharedSeams, target)) return ''
    return has(sharedRooms[from] ?? [], to) ? '' : `${from} may not lean on ${to}`
  }
  if (toTop === 'shared') {
    return has(pureRooms, from) && to !== 'shared/model' && to !== 'shared/policy'
      ? 'a pure room imports shared/model only'
      : ''
  }
  if (fromTop !== toTop) return `${fromTop} and ${toTop} never import each other`
  if (fromTop !== 'agent' || has(compositionRoots, source.path)) return ''
  if (has(agentSeams, target)) return ''
  return has(agentRooms[from] ?? [], to) ? '' : `${from} may not lean on ${to}`
}

function breaches(judge: (source: Source, imported: Import) => string): string[] {
  return product.flatMap((source) =>
    source.imports.flatMap((imported) => {
      const why = judge(source, imported)
      return why === '' ? [] : [`${source.path} imports ${imported.spelled}: ${why}`]
    }),
  )
}

t.test('every import keeps to the rooms its own room may lean on', async (t) => {
  t.ok(product.length > 20, 'the sources were found')
  t.same(
    breaches((source, imported) => (imported.kind === 'file' ? breach(source, imported.path) : '')),
    [],
  )
})

t.test('pure rooms and the model use neither Node nor packages', async (t) => {
  const judge = (source: Source, imported: Import): string =>
    imported.kind !== 'file' && has([...pureRooms, 'shared/model'], roomOf(source.path))
      ? 'no I/O here'
      : ''
  t.same(breaches(judge), [])
})

t.test('inside a room imports read ./x.ts, elsewhere the full name', async (t) => {
  const found = sources().flatMap(({ path, imports }) =>
    imports.flatMap((imported) => {
      if (imported.kind !== 'file') return []
      const { spelled } = imported
      const bad =
        spelled.includes('../') ||
        (spelled.startsWith('#') && roomOf(spelled.slice(1)) === roomOf(path) && !inTest(path))
      return bad ? [`${path}: ${spelled}`] : []
    }),
  )
  t.same(found, [])
})

t.test('each npm package has one home room', async (t) => {
  const homes = new Map<string, Set<string>>()
  for (const { path, imports } of product)
    for (const imported of imports)
      if (imported.kind === 'package')
        homes.set(imported.name, (homes.get(imported.name) ?? new Set()).add(roomOf(path)))
  const shared = [...homes].filter(([, rooms]) => rooms.size > 1)
  t.same(
    shared.map(([name, rooms]) => `${name}: ${[...rooms].join(', ')}`),
    [],
  )
})

t.test('only main.ts touches the process', async (t) => {
  const found = product
    .filter(({ path }) => !path.endsWith('/main.ts'))
    .filter(({ text }) => /(?<![.\w'"`-])process\.(?!md)\w/.test(withoutComments(text)))
  t.same(
    found.map(({ path }) => path),
    [],
  )
})

function inTest(path: string): boolean {
  return path.startsWith('test/')
}

function withoutComments(text: string): string {
  return text.replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '')
}
