/** Enforces the law of imports of CONTRIBUTING.md; its data is test/support/house-law.ts. */

import t from 'tap'
import { breach, pureRooms, roomOf } from '#test/support/house-law.ts'
import { type Import, type Source, sources } from '#test/support/sources.ts'

const has = (list: readonly string[], item: string): boolean => list.includes(item)
const programs = ['agent', 'controller', 'cli', 'shared']
const product = sources().filter(({ path }) => has(programs, path.split('/')[0] ?? ''))

function breaches(judge: (source: Source, imported: Import) => string): string[] {
  return product.flatMap((source) =>
    source.imports.flatMap((imported) => {
      const why = judge(source, imported)
      return why === '' ? [] : [`${source.path} imports ${imported.spelled}: ${why}`]
    }),
  )
}

t.test('breach knows the law', async (t) => {
  const allowed = [
    ['agent/tunnel/dial.ts', 'agent/identity/credentials.ts'],
    ['agent/health/checker.ts', 'agent/platform.ts'],
    ['agent/app.ts', 'agent/health/checker.ts'],
    ['shared/route/match.ts', 'shared/model/names.ts'],
    ['shared/route/match.ts', 'shared/route/other.ts'],
    ['shared/store/link.ts', 'shared/schema/records.ts'],
    ['cli/main.ts', 'cli/output/table.ts'],
    ['cli/status.ts', 'shared/model/admin.ts'],
  ] as const
  for (const [from, to] of allowed) t.equal(breach(from, to), '', `${from} may import ${to}`)
  const forbidden = [
    ['agent/identity/credentials.ts', 'agent/tunnel/dial.ts'],
    ['agent/outbound/connect.ts', 'agent/inbound/accept.ts'],
    ['agent/health/checker.ts', 'agent/app.ts'],
    ['agent/balance/p2c.ts', 'shared/lifecycle/clock.ts'],
    ['shared/model/names.ts', 'shared/lifecycle/clock.ts'],
    ['shared/route/match.ts', 'shared/schema/manifest.ts'],
    ['shared/pki/svid.ts', 'shared/store/link.ts'],
    ['shared/store/link.ts', 'agent/platform.ts'],
    ['cli/main.ts', 'agent/config.ts'],
    ['controller/app.ts', 'agent/config.ts'],
  ] as const
  for (const [from, to] of forbidden) t.not(breach(from, to), '', `${from} may not import ${to}`)
})

t.test('every import keeps to the rooms its own room may lean on', async (t) => {
  t.ok(product.length > 20, 'the sources were found')
  t.same(
    breaches((source, imported) =>
      imported.kind === 'file' ? breach(source.path, imported.path) : '',
    ),
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
    .filter(({ text }) => /(?<![.#\w'"`-])process\.(?!md)\w/.test(withoutComments(text)))
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
