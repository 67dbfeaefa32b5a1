import { spawnSync } from 'node:child_process'
import t from 'tap'
import { manual } from '#systemd/packaging/manual.ts'
import { everyVerb, verbTree } from '#systemd/packaging/verb-tree.ts'
import { lacks } from '#test/support/needs.ts'

const pages = Object.entries(manual(verbTree(), '1.2.3'))

t.test('every page is sound', { skip: lacks('groff') || false }, async (t) => {
  for (const [name, text] of pages) {
    const words = ['-man', '-Tutf8', '-wall', '-P-cbou']
    const { status, stdout, stderr } = spawnSync('groff', words, { input: text, encoding: 'utf8' })
    t.same({ status, stderr }, { status: 0, stderr: '' }, name)
    t.match(stdout, /NAME[^]*EXIT STATUS[^]*SEE ALSO[^]*Hostmesh 1\.2\.3/, name)
    if (name !== 'meshctl.1') continue
    for (const { usage, verbs } of everyVerb(verbTree())) {
      if (verbs.length === 0) t.ok(stdout.replaceAll(/\s+/g, ' ').includes(usage), usage)
    }
  }
})
