import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import t from 'tap'
import { root } from '#test/support/sources.ts'

t.test('the test command names each word that fits no test file, and runs nothing', async (t) => {
  const words = [join(root, 'test/run.ts'), 'test/run.test.ts', 'no-such-test']
  const { status, stdout } = spawnSync(process.execPath, words, { encoding: 'utf8' })
  t.equal(status, 1)
  t.equal(stdout, 'no test file has "no-such-test" in its path\n')
})
