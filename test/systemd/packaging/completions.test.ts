import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { completions } from '#systemd/packaging/completions.ts'
import { verbTree } from '#systemd/packaging/verb-tree.ts'
import { lacks } from '#test/support/needs.ts'
import { testDirectory } from '#test/support/test-directory.ts'

const { bash, zsh, fish } = completions(verbTree())

t.test('bash completes verbs, verbs below verbs, options and values', async (t) => {
  const file = join(testDirectory(t, {}), 'meshctl')
  writeFileSync(file, bash)
  const complete = (...words: readonly string[]): string[] => {
    const line = ['meshctl', ...words].map((word) => `'${word}'`).join(' ')
    const script = `. ${file}; COMP_WORDS=(${line}); COMP_CWORD=${words.length}; _meshctl; echo "\${COMPREPLY[@]}"`
    return execFileSync('bash', ['-euc', script], { encoding: 'utf8' }).trim().split(' ')
  }
  t.same(complete('sta'), ['status'])
  const verbs = complete('')
  for (const verb of ['status', 'services', 'check', 'store']) t.ok(verbs.includes(verb), verb)
  t.notOk(verbs.includes('migrate'), 'a verb only behind its own')
  t.same(complete('store', 'mig'), ['migrate'])
  t.ok(complete('--json', 'store', '').includes('backup'))
  t.same(complete('maintenance', 'o'), ['on', 'off'])
  t.same(complete('token', 'create', 'h1', '--serv'), ['--service'])
  t.same(complete('join', '--token-file', ''), [''], 'a path is the shell’s own matter')
})

t.test('fish completes the same', { skip: lacks('fish') || false }, async (t) => {
  const file = join(testDirectory(t, {}), 'meshctl.fish')
  writeFileSync(file, fish)
  const complete = (line: string): string[] => {
    const script = `source ${file}; complete -C '${line}'`
    const said = execFileSync('fish', ['--no-config', '-c', script], { encoding: 'utf8' })
    return said.split('\n').map((one) => one.split('\t')[0] ?? '')
  }
  t.match(complete('meshctl sta'), ['status'])
  t.ok(complete('meshctl store ').includes('migrate'))
  t.notOk(complete('meshctl store ').includes('status-'), 'and nothing else')
  t.ok(complete('meshctl token create h1 --serv').includes('--service'))
  t.notOk(complete('meshctl ').includes('migrate'), 'a verb only behind its own')
})

t.test('zsh reads its own', { skip: lacks('zsh') || false }, async (t) => {
  const file = join(testDirectory(t, {}), '_meshctl')
  writeFileSync(file, zsh)
  execFileSync('zsh', ['-n', file])
  const script = `compdef() {}; _describe() { print -rl -- \${(P)2} }; _files() { print files }
    words=(meshctl store ''); CURRENT=3; source ${file}`
  const said = execFileSync('zsh', ['-f', '-c', script], { encoding: 'utf8' })
  t.match(said, /^status:where it is/m)
  t.match(said, /^migrate:/m)
  t.notMatch(said, /^drain:/m)
})
