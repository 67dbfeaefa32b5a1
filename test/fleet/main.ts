/**
 * Owns the command line of the fleet: `npm run fleet [-- --brief] [--rotate] [--json]`. Four machines, or
 * two, from nothing to a mesh and back, on the way to another root with `--rotate`; root only.
 */

import { parseArgs } from 'node:util'
import { renderResult, type Result } from '#test/bench/result.ts'
import { lacks } from '#test/support/needs.ts'
import { fleetStory } from './story.ts'

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    brief: { type: 'boolean', default: false },
    rotate: { type: 'boolean', default: false },
  },
})
const lacking = lacks('machines', 'ansible-playbook')
if (lacking !== '') {
  process.stderr.write(`fleet: ${lacking}\n`)
  process.exit(1)
}
const rows: Result[] = []
const ends: (() => Promise<void>)[] = []
const parts = {
  teardown: (end: () => Promise<void>) => ends.unshift(end),
  comment: (line: string) => process.stderr.write(`${line}\n`),
}
async function clearUp(): Promise<void> {
  for (const end of ends.splice(0)) await end()
}
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => void clearUp().then(() => process.exit(1)))
}
let failed = false
try {
  await fleetStory(parts, {
    size: values.brief ? 'brief' : 'full',
    rotates: values.rotate,
    onRow(row) {
      rows.push(row)
      process.stdout.write(`${values.json ? JSON.stringify(row) : renderResult(row)}\n`)
    },
  })
} catch (error) {
  failed = true
  process.stderr.write(`fleet: ${error instanceof Error ? error.message : String(error)}\n`)
} finally {
  await clearUp()
}
process.exit(failed || rows.some(({ ok }) => !ok) ? 1 : 0)
