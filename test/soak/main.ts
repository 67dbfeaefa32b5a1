/**
 * Owns the command line of the soak: `npm run soak -- [name…] [--json] [--brief]`. A name picks the
 * events of one kind; without one all run, one kind after the other.
 */

import { parseArgs } from 'node:util'
import { renderResult, type Result } from '#test/bench/result.ts'
import { hosts } from './events/hosts.ts'
import { identity } from './events/identity.ts'
import { kills } from './events/kills.ts'
import { upgrades } from './events/upgrades.ts'
import { store } from './events/store.ts'
import { killMeshes, type SoakSettings } from './soak.ts'

/** Every kind of events. */
const kinds: Readonly<Record<string, (settings: SoakSettings) => Promise<void>>> = {
  hosts,
  identity,
  upgrades,
  kills,
  store,
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'boolean', default: false },
    brief: { type: 'boolean', default: false },
  },
})
const names = positionals.length > 0 ? positionals : Object.keys(kinds)
const unknown = names.filter((name) => !Object.hasOwn(kinds, name))
if (unknown.length > 0) {
  const known = Object.keys(kinds).join(', ')
  process.stderr.write(`no soak ${unknown.join(', ')}; there is ${known}\n`)
  process.exit(64)
}

const rows: Result[] = []
const settings: SoakSettings = {
  size: values.brief ? 'brief' : 'full',
  say: (line) => void process.stderr.write(`${line}\n`),
  onRow(row) {
    rows.push(row)
    process.stdout.write(`${values.json ? JSON.stringify(row) : renderResult(row)}\n`)
  },
}
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    killMeshes()
    process.exit(1)
  })
}
let failed = false
for (const name of names) {
  try {
    await kinds[name]?.(settings)
  } catch (error) {
    failed = true
    process.stderr.write(
      `soak ${name}: ${error instanceof Error ? error.message : String(error)}\n`,
    )
  }
}
process.exit(failed || rows.some(({ ok }) => !ok) ? 1 : 0)
