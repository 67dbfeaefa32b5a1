/**
 * Owns the directories of tests. Each is of one process: two runs in one checkout do not meet there.
 * What a run leaves that was killed is removed by the next one.
 */

import { existsSync, readdirSync, rmSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import type { Test } from 'tap'

/** What a directory is to hold: texts by name, and directories. */
type Content = Parameters<Test['testdir']>[0]

const program = basename(process.argv[1] ?? 'test').replace(/\.test\.ts$/, '')
let made = 0

/**
 * Makes a directory that is removed when everything that the test began has stopped. By itself tap
 * removes one first that was made before the first `teardown`, under the hands of whoever still writes.
 * Its name is short: a unix socket's path may have 107 bytes only.
 */
export function testDirectory(
  t: Pick<Test, 'testdir' | 'testdirName' | 'teardown'>,
  content?: Content,
): string {
  t.teardown(() => {})
  const all = dirname(t.testdirName)
  if (made === 0) removeLeft(all)
  made += 1
  t.testdirName = join(all, `${program}.${process.pid}.${made}`)
  return t.testdir(content)
}

/** Removes what ended processes left; another run may do the same just now. */
function removeLeft(all: string): void {
  const names = existsSync(all) ? readdirSync(all) : []
  for (const name of names) {
    const [, pid] = /\.([0-9]+)\.[0-9]+$/.exec(name) ?? []
    if (pid === undefined || isAlive(Number(pid))) continue
    try {
      rmSync(join(all, name), { recursive: true, force: true, maxRetries: 3 })
    } catch {
      // Another user's: no test fails for what an earlier one left.
    }
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
