/** The collection, judged by Debian's own linter. */

import { spawnSync } from 'node:child_process'
import { globSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { lacks } from '#test/support/needs.ts'
import { root } from '#test/support/sources.ts'
import { layCollection } from './fleet.ts'

t.test('ansible-lint has nothing to say', { skip: lacks('ansible-lint') || false }, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'hostmesh-lint-'))
  t.teardown(() => rmSync(directory, { recursive: true }))
  const cwd = join(root, 'ansible')
  const files = globSync(['playbooks/*.yml', 'roles/*'], { cwd })
  t.ok(files.length > 5, 'there are playbooks and roles')
  const words = ['--offline', '--nocolor', '-c', '.ansible-lint', ...files]
  const env = layCollection(directory)
  const { status, stdout, stderr } = spawnSync('ansible-lint', words, {
    cwd,
    env,
    encoding: 'utf8',
  })
  t.equal(status, 0, `${stdout}${stderr}`.slice(-4000))
})
