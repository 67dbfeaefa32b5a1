/**
 * Owns the test command: Debian parts where it may install them, then the gate, then every test
 * file, and at the end one line with the counts. Words on the command line pick the test files whose
 * path contains one of them, and leave the gate out.
 */

import { spawn } from 'node:child_process'
import { globSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { canInstall, installPackages } from '#cli/debian.mjs'
import { printChecks, runChecks } from './check.ts'
import { namesOf, type Problem } from './support/failed-names.ts'
import { type FileResult, TapReport, type TestResult } from './support/tap-report.ts'

const root = dirname(import.meta.dirname)

/** The real programs that tests run against. */
const debianParts = [
  'ansible-core',
  'ansible-lint',
  'apache2-utils',
  'curl',
  'debootstrap',
  'etcd-client',
  'etcd-server',
  'fish',
  'groff-base',
  'iproute2',
  'libatomic1',
  'nftables',
  'dnsutils',
  'nghttp2-client',
  'nghttp2-server',
  'nginx-light',
  'postgresql',
  'python3',
  'python3-requests',
  'redis-server',
  'redis-tools',
  'systemd-container',
  'util-linux',
  'wrk',
  'zsh',
]

/** How long a test file may take that says nothing of it: no machine is that slow, a hang is for ever. */
const fileSeconds = 300

function testFiles(filters: readonly string[]): string[] {
  return globSync('test/**/*.test.ts', { cwd: root })
    .filter((file) => filters.length === 0 || filters.some((filter) => file.includes(filter)))
    .sort()
}

function printFile({ file, tests, tookMs }: FileResult): void {
  const count = (verdict: TestResult['verdict']): number =>
    tests.filter((test) => test.verdict === verdict).length
  const [passed, failed, skipped] = [count('passed'), count('failed'), count('skipped')]
  const parts = [
    `${passed} passed`,
    ...(failed > 0 ? [`${failed} failed`] : []),
    ...(skipped > 0 ? [`${skipped} skipped`] : []),
  ]
  const seconds = (tookMs / 1000).toFixed(1)
  console.log(`${failed > 0 ? 'FAIL' : 'ok  '}  ${file}  ${parts.join(', ')}  ${seconds} s`)
}

function printFailures(tests: readonly TestResult[]): void {
  for (const { file, name, detail } of tests.filter((test) => test.verdict === 'failed'))
    console.log(
      `\nFAIL  ${file}\n      ${name}\n${detail.map((line) => `      ${line}`).join('\n')}`,
    )
}

function printSkipped(tests: readonly TestResult[]): void {
  const skipped = tests.filter((test) => test.verdict === 'skipped')
  for (const [reason, group] of Map.groupBy(skipped, (test) => test.reason)) {
    console.log(`\nleft out, ${reason}:`)
    for (const { file, name } of group) console.log(`  ${file}  ${name === file ? '' : name}`)
  }
}

/** Runs the files, two at a time; answers every test, and how the runner itself ended. */
async function runFiles(files: readonly string[]): Promise<{ tests: TestResult[]; code: number }> {
  const tests: TestResult[] = []
  const report = new TapReport((result) => {
    printFile(result)
    tests.push(...result.tests)
  })
  const runner = join(root, 'node_modules/tap/dist/esm/run.mjs')
  const words = [
    '--disable-coverage',
    '--reporter=tap',
    '--jobs=2',
    `--timeout=${fileSeconds}`,
    ...files,
  ]
  const child = spawn(process.execPath, [runner, ...words], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal))
  const ended = new Promise<number>((resolve) => child.once('close', (code) => resolve(code ?? 1)))
  for await (const line of createInterface({ input: child.stdout })) report.line(line)
  return { tests, code: await ended }
}

async function main(filters: readonly string[]): Promise<number> {
  const files = testFiles(filters)
  const barren = filters.filter((filter) => testFiles([filter]).length === 0)
  for (const word of barren) console.log(`no test file has ${JSON.stringify(word)} in its path`)
  if (barren.length > 0) return 1
  let failed = 0
  let passed = 0
  if (canInstall()) {
    const problem = installPackages(debianParts, (line) => console.log(line))
    if (problem !== '') console.log(`${problem}\ntests that need it will be left out`)
  }
  const problems: Problem[] = []
  if (filters.length === 0) {
    const results = await runChecks()
    failed += printChecks(results)
    passed += results.length - failed
    for (const { ok, name, output } of results)
      if (!ok) problems.push({ where: `check ${name}`, why: output })
  }
  const { tests, code } = await runFiles(files)
  printSkipped(tests)
  printFailures(tests)
  const count = (verdict: TestResult['verdict']): number =>
    tests.filter((test) => test.verdict === verdict).length
  passed += count('passed')
  failed += count('failed')
  for (const { file, name, verdict, detail } of tests)
    if (verdict === 'failed')
      problems.push({ where: name === file ? file : `${file} › ${name}`, why: detail[0] ?? '' })
  const ran = new Set(tests.map((test) => test.file))
  for (const file of files.filter((file) => !ran.has(file))) {
    failed += 1
    problems.push({ where: file, why: 'the runner ended without a word about it' })
  }
  if (code !== 0 && failed === 0) {
    failed = 1
    problems.push({ where: 'the test runner', why: `ended with ${code} though every test passed` })
  }
  for (const line of namesOf(problems)) console.log(line)
  console.log(`\n${passed} passed, ${failed} failed, ${count('skipped')} skipped`)
  return failed === 0 && passed > 0 ? 0 : 1
}

process.exitCode = await main(process.argv.slice(2))
