/** Enforces that the reference pages in docs/ say what the code does, row by row. */

import t from 'tap'
import { agentMetrics } from '#shared/metrics/names.ts'
import { readProjectFile } from '#test/support/sources.ts'

/** The first cell of every table row of a page, where it is code. */
function rowsOf(page: string): string[] {
  return Array.from(readProjectFile(page).matchAll(/^\| `([^`]+)`/gm), ([, name = '']) => name)
}

t.test('docs/metrics.md has a row for every metric, with its kind and labels', async (t) => {
  const text = readProjectFile('docs/metrics.md')
  t.same(
    rowsOf('docs/metrics.md').sort(),
    Object.values(agentMetrics)
      .map((metric) => metric.name)
      .sort(),
  )
  for (const { name, kind, labels } of Object.values(agentMetrics)) {
    const words = labels.map((label) => `\`${label}\``).join(', ')
    t.ok(text.includes(`| \`${name}\` | ${kind} | ${words} |`), `${name} has kind and labels`)
  }
})

t.test('docs/reasons.md has a row for every reason', async (t) => {
  const source = readProjectFile('shared/model/reason.ts')
  const union = source.slice(source.indexOf('export type Reason'), source.indexOf('/** Which side'))
  const reasons = Array.from(union.matchAll(/^ {2}\| '([a-z0-9-]+)'/gm), ([, name = '']) => name)
  t.ok(reasons.length > 15)
  t.same(rowsOf('docs/reasons.md').sort(), reasons.sort())
})
