/** Enforces that the reference pages in docs/ say what the code does, row by row. */

import t from 'tap'
import { checkNames } from '#agent/admin/checks.ts'
import { answers } from '#agent/relay/replies.ts'
import { makeProgram } from '#cli/commands/program.ts'
import { agentVariables } from '#agent/config-reader.ts'
import { agentConfigSchema } from '#agent/config-schema.ts'
import { controllerConfigSchema, controllerVariables } from '#controller/config.ts'
import { agentMetrics, controllerMetrics } from '#shared/metrics/names.ts'
import { manifestSchema } from '#shared/schema/manifest.ts'
import * as keys from '#shared/store/keys.ts'
import { manifestRows, metricRows, settingRows, storeKeys } from '#test/support/reference-rows.ts'
import { projectFiles, readProjectFile } from '#test/support/sources.ts'

/** A page's table rows whose first cell is code, as prettier leaves them, spaces made single. */
function rowsOf(page: string): string[] {
  const text = readProjectFile(page).replaceAll(/ {2,}/g, ' ')
  return Array.from(text.matchAll(/^\| `.*\|$/gm), ([line]) => line)
}

t.test('docs/metrics.md has exactly the metrics there are', async (t) => {
  t.same(rowsOf('docs/metrics.md'), [...metricRows(agentMetrics), ...metricRows(controllerMetrics)])
})

t.test('docs/configuration.md has exactly the settings there are', async (t) => {
  t.same(rowsOf('docs/configuration.md'), [
    ...settingRows(agentConfigSchema, agentVariables),
    ...settingRows(controllerConfigSchema, controllerVariables),
  ])
})

t.test('docs/manifest.md has exactly the keys there are', async (t) => {
  t.same(rowsOf('docs/manifest.md'), manifestRows(manifestSchema))
})

t.test('docs/manifest.schema.json is what `meshctl schema` prints', async (t) => {
  t.same(JSON.parse(readProjectFile('docs/manifest.schema.json')), manifestSchema)
})

t.test(
  'docs/reasons.md has a row for every reason, with its status and who is at fault',
  async (t) => {
    const rows = rowsOf('docs/reasons.md').map((line) => line.split(' | ').slice(0, 3).join(' | '))
    const expected = Object.entries(answers).map(([reason, { status, blame }]) =>
      reason === 'ok'
        ? "| `ok` | the service's | nobody"
        : `| \`${reason}\` | ${status} | ${blame}`,
    )
    t.same(rows.sort(), expected.sort())
  },
)

t.test('docs/checks.md has a section for every check, in the order shown', async (t) => {
  const sections = Array.from(
    readProjectFile('docs/checks.md').matchAll(/^## (.*)$/gm),
    ([, name]) => name,
  )
  t.same(sections, ['agent-socket', ...checkNames])
})

t.test('docs/store.md has exactly the keys there are', async (t) => {
  const layout = storeKeys()
  const made = Object.keys(keys).filter((name) => /^(?!parse).*Key$/.test(name))
  t.same(Object.keys(layout).sort(), made.sort(), 'every export that makes a key is in the layout')
  const told = rowsOf('docs/store.md').map((line) => line.split('`')[1])
  t.same(told, Object.values(layout))
  const prefixes = Object.entries(keys).filter(([name]) => name.endsWith('Prefix'))
  for (const [name, prefix] of prefixes) {
    if (typeof prefix === 'string')
      t.ok(
        told.some((key) => key?.startsWith(prefix)),
        name,
      )
  }
})

t.test('README.md leads to every page in docs/', async (t) => {
  const readme = readProjectFile('README.md')
  const pages = projectFiles().filter((path) => /^docs\/[a-z-]+\.md$/.test(path))
  t.same(
    pages.filter((page) => !readme.includes(`](${page})`)),
    [],
  )
})

t.test('links between the pages lead somewhere', async (t) => {
  const files = new Set(projectFiles())
  const pages = [...files].filter((path) => path.endsWith('.md'))
  const broken = pages.flatMap((page) =>
    Array.from(readProjectFile(page).matchAll(/\]\((?!https?:|#)([^)#\s]+)/g), ([, link = '']) => {
      const target = new URL(link, `file:///${page}`).pathname.slice(1)
      const found = files.has(target) || [...files].some((file) => file.startsWith(target))
      return found ? [] : [`${page}: ${link}`]
    }).flat(),
  )
  t.same(broken, [])
})

t.test('CONTRIBUTING.md names every room', async (t) => {
  const page = readProjectFile('CONTRIBUTING.md')
  const rooms = projectFiles().flatMap(
    (path) => /^(?:agent|controller|shared|cli)\/([^/]+)\//.exec(path)?.[1] ?? [],
  )
  t.same(
    [...new Set(rooms)].filter((room) => !new RegExp(`(?<![\\w-])${room}/`).test(page)),
    [],
  )
})

t.test('docs/meshctl.md has every verb of meshctl', async (t) => {
  const page = readProjectFile('docs/meshctl.md')
  const surroundings = {
    streams: { out() {}, err() {} },
    version: '',
    documents: '',
    user: 'root',
    isRoot: true,
    killGroup() {},
    beforeSignal: () => () => {},
    exit() {},
  }
  const missing = verbsOf(makeProgram(surroundings), '').filter((verb) => !page.includes(verb))
  t.same(missing, [])
})

/** Every command line a verb begins with, as in `meshctl store backup`. */
function verbsOf(command: Verb, before: string): readonly string[] {
  const line = `${before} ${command.name()}`.trim()
  return command.commands.length === 0
    ? [line]
    : command.commands.flatMap((inner) => verbsOf(inner, line))
}

interface Verb {
  readonly commands: readonly Verb[]
  name(): string
}

t.test('decisions are numbered once each, without a gap, as their titles say', async (t) => {
  const pages = projectFiles().filter((path) => path.startsWith('docs/decisions/'))
  const numbers = pages.map((path) => Number(/\/([0-9]{3})-[a-z0-9-]+\.md$/.exec(path)?.[1]))
  t.same(
    numbers.toSorted((a, b) => a - b),
    pages.map((_, index) => index + 1),
  )
  const titled = pages.map((path) => Number(/^# ([0-9]{3}): /.exec(readProjectFile(path))?.[1]))
  t.same(titled, numbers)
})

t.test('docs/security.md names a test for every attempt, and each test is there', async (t) => {
  const files = new Set(projectFiles())
  const page = readProjectFile('docs/security.md')
  const tables = page.split('\n## ').filter((section) => /\| shown by +\|/.test(section))
  t.equal(tables.length, 6, 'a table for each actor, and one for what any caller may send')
  for (const table of tables) {
    const [, , ...rows] = table.split('\n').filter((line) => line.startsWith('|'))
    for (const row of rows) t.match(row, /`test\/[^`]+\.test\.ts`/)
  }
  const named = Array.from(page.matchAll(/`(test\/[^`]+)`/g), ([, path = '']) => path)
  t.ok(named.length > 40)
  t.same(
    named.filter((path) => !files.has(path)),
    [],
  )
})
