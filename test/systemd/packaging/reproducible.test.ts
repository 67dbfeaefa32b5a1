/** Real packages, made twice. */

import { execFileSync } from 'node:child_process'
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { root } from '#test/support/sources.ts'
import { lacks } from '#test/support/needs.ts'

t.setTimeout(600_000)

const skip = lacks('dpkg-deb') || false

t.test('the same sources give the same bytes, for either architecture', { skip }, async (t) => {
  const sums = ['one', 'two'].map((name) => {
    const out = join(root, '.package', `test-${process.pid}`, name)
    t.teardown(() => rmSync(out, { recursive: true, force: true }))
    const words = ['run', '--silent', 'package', '--', '--plain', '--arch', 'arm64', '--out', out]
    execFileSync('npm', words, { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] })
    if (name === 'two') holds(t, join(out, 'hostmesh_0.1.0_arm64.deb'))
    return readFileSync(join(out, 'SHA256SUMS'), 'utf8')
  })
  t.equal(sums[0], sums[1])
  t.match(sums[0], /^[0-9a-f]{64} {2}hostmesh_.*_arm64\.deb$/m)
})

/** What a host gets, by name; nothing that leads nowhere. */
function holds(t: Test, deb: string): void {
  const listed = execFileSync('dpkg-deb', ['--contents', deb], { encoding: 'utf8', maxBuffer: 1e8 })
  for (const file of [
    'usr/bin/meshctl',
    'usr/lib/hostmesh/bin/node',
    'usr/lib/systemd/system/mesh-agent.service',
    'usr/lib/systemd/system-preset/80-hostmesh.preset',
    'usr/share/bash-completion/completions/meshctl',
    'usr/share/zsh/vendor-completions/_meshctl',
    'usr/share/fish/vendor_completions.d/meshctl.fish',
    'usr/share/man/man1/meshctl.1.gz',
    'usr/share/man/man8/mesh-agent.8.gz',
    'usr/share/man/man8/mesh-controller.8.gz',
    'usr/share/hostmesh/manifest.schema.json',
    'usr/share/doc/hostmesh/operations.md',
    'usr/share/doc/hostmesh/copyright',
  ]) {
    t.ok(listed.includes(` ./${file}\n`), file)
  }
  const links = listed.split('\n').filter((line) => line.startsWith('l'))
  t.same(links, [], 'no link, so none that leads nowhere')
}
