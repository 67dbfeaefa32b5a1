/** Owns the directories of tests. */

import type { Test } from 'tap'

/** What a directory is to hold: texts by name, and directories. */
type Content = Parameters<Test['testdir']>[0]

/**
 * Makes a directory that is removed when everything that the test began has stopped. By itself tap
 * removes one first that was made before the first `teardown`, under the hands of whoever still writes.
 */
export function testDirectory(t: Pick<Test, 'testdir' | 'teardown'>, content?: Content): string {
  t.teardown(() => {})
  return t.testdir(content)
}
