/**
 * Owns the gate before the tests: format, lint with types, types. All three run and report together,
 * so that one round of fixing is enough.
 */

import { execFile } from 'node:child_process'
import { dirname, join } from 'node:path'

/** What one tool of the gate said. */
export interface CheckResult {
  readonly name: 'format' | 'lint' | 'types'
  readonly ok: boolean
  readonly output: string
  /** What to do about it. */
  readonly fix: string
}

const root = dirname(import.meta.dirname)
const tools = [
  {
    name: 'format',
    words: ['prettier/bin/prettier.cjs', '--check', '--log-level=warn', '.'],
    fix: 'npm run format',
  },
  {
    name: 'lint',
    words: ['oxlint/bin/oxlint', '--type-aware', '--deny-warnings', '--quiet'],
    fix: 'each line names its rule',
  },
  { name: 'types', words: ['typescript/bin/tsc', '--pretty', 'false'], fix: 'see the lines above' },
] as const

/** Runs the whole gate. */
export function runChecks(): Promise<readonly CheckResult[]> {
  return Promise.all(
    tools.map(
      ({ name, words: [program, ...options], fix }) =>
        new Promise<CheckResult>((resolve) => {
          const words = [join(root, 'node_modules', program), ...options]
          execFile(
            process.execPath,
            words,
            { cwd: root, maxBuffer: 2 ** 26 },
            (error, out, complaints) =>
              resolve({ name, ok: error === null, output: `${out}${complaints}`.trim(), fix }),
          )
        }),
    ),
  )
}

/** Prints the results; answers how many failed. */
export function printChecks(results: readonly CheckResult[]): number {
  for (const { name, ok, output, fix } of results) {
    if (!ok) console.log(`\n${output}\n`)
    console.log(ok ? `ok    check: ${name}` : `FAIL  check: ${name} (${fix})`)
  }
  return results.filter((result) => !result.ok).length
}

if (import.meta.main) process.exitCode = printChecks(await runChecks()) === 0 ? 0 : 1
