import { execFileSync } from 'node:child_process'
import { linkSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { manifestValidate } from '#cli/manifest.ts'
import { Printer } from '#cli/output/printer.ts'
import { testDirectory } from '#test/support/test-directory.ts'

t.test('manifest validate takes nothing that the agent would not', async (t) => {
  const manifest = '{"name": "orders", "port": 8080}'
  const dir = testDirectory(t, {
    'orders.json': manifest,
    'orders.yaml': manifest,
    'twice.json': manifest,
    'large.json': ' '.repeat(70_000),
  })
  symlinkSync(join(dir, 'orders.json'), join(dir, 'link.json'))
  linkSync(join(dir, 'twice.json'), join(dir, 'again.json'))
  execFileSync('mkfifo', [join(dir, 'pipe.json')])
  const said = (name: string): readonly [number, string] => {
    let out = ''
    const streams = { out: (text: string) => void (out += text), err: () => {} }
    const printer = new Printer({ streams }, { json: false })
    const code = manifestValidate({ printer }, { files: [join(dir, name)] })
    return [code, out.slice(dir.length + 1)]
  }
  t.match(said('link.json'), [1, 'link.json: cannot be read: symbolic links are not followed\n'])
  t.match(said('again.json'), [1, /it has 2 names/])
  t.match(said('pipe.json'), [1, 'pipe.json: cannot be read: this is not a regular file\n'])
  t.match(said('large.json'), [1, /are more than/])
  // Ansible and the like look at a copy before it gets its name.
  t.match(said('orders.yaml'), [0, /good, but ignored under this name: .*\.json/])
  t.match(said('orders.json'), [0, /^orders\.json: good\n$/])
})
