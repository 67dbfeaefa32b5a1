import { type ChildProcess, spawn } from 'node:child_process'
import { chmodSync, copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { root } from '#test/support/sources.ts'
import { testDirectory } from '#test/support/test-directory.ts'

interface Checkout {
  readonly dir: string
  /** How often npm was run. */
  readonly installs: () => number
  readonly start: (...words: readonly string[]) => Run
}

interface Run {
  readonly child: ChildProcess
  readonly out: Promise<string>
  readonly err: Promise<string>
  readonly code: Promise<number | string>
}

/** A fresh checkout whose npm is a script of ours; `path` follows its directory in `PATH`. */
function checkout(t: Test, npm: string, path = ':/usr/bin:/bin'): Checkout {
  const dir = testDirectory(t, {
    'package.json': '{}',
    'package-lock.json': '{}',
    '.taprc': '',
    cli: {},
    bin: { npm: `#!/bin/sh\necho run >> "$PWD/installs"\n${npm}\n` },
    installs: '',
    'hello.ts':
      'const n: number = 3; console.log("hello", ...process.argv.slice(2)); process.exitCode = n',
    'wait.ts':
      'process.on("SIGTERM", () => process.exit(7)); setInterval(() => {}, 1e6); console.log("up")',
  })
  chmodSync(join(dir, 'bin/npm'), 0o755)
  for (const name of ['setup.mjs', 'debian.mjs'])
    copyFileSync(join(root, 'cli', name), join(dir, 'cli', name))
  return {
    dir,
    installs: () => readFileSync(join(dir, 'installs'), 'utf8').split('\n').length - 1,
    start: (...words) => {
      const child = spawn(process.execPath, ['cli/setup.mjs', ...words], {
        cwd: dir,
        env: { PATH: `${dir}/bin${path}`, RUNTIME: process.execPath },
        stdio: ['ignore', 'pipe', 'pipe'],
      })
      const code = new Promise<number | string>((resolve) =>
        child.once('close', (code, signal) => resolve(code ?? signal ?? '')),
      )
      return { child, out: text(child.stdout), err: text(child.stderr), code }
    },
  }
}

const goodNpm = `at="node_modules/node-linux-${process.arch}/bin"
rm -rf node_modules
mkdir -p "$at" node_modules/tap/dist/esm
ln -s "$RUNTIME" "$at/node"
echo > node_modules/tap/dist/esm/run.mjs`

t.test('setup installs once, then hands over with words and exit code', async (t) => {
  const { installs, start } = checkout(t, goodNpm)
  const first = start('hello.ts', 'a', '--b')
  t.equal(await first.code, 3)
  t.equal(await first.out, 'hello a --b\n')
  t.match(await first.err, /setting up: installing packages[^]*set-up done/)
  const second = start('hello.ts')
  t.equal(await second.code, 3)
  t.equal(await second.err, '', 'the second run has nothing to say')
  t.equal(installs(), 1)
})

t.test(
  'setup installs again when the lock file has changed or the packages are gone',
  async (t) => {
    const { dir, installs, start } = checkout(t, goodNpm)
    await start('hello.ts').code
    writeFileSync(join(dir, 'package-lock.json'), '{"new": true}')
    await start('hello.ts').code
    t.equal(installs(), 2)
    rmSync(join(dir, 'node_modules'), { recursive: true })
    await start('hello.ts').code
    t.equal(installs(), 3)
  },
)

t.test('two commands started at once install once, and both run', async (t) => {
  const { dir, installs, start } = checkout(t, `read line < gate\n${goodNpm}`)
  t.equal(await run('mkfifo', [join(dir, 'gate')]), 0)
  const [first, second] = [start('hello.ts'), start('hello.ts')]
  const waits = Promise.any(
    [first, second].map(
      ({ child }) =>
        new Promise<void>((resolve) =>
          child.stderr?.on(
            'data',
            (chunk) => String(chunk).includes('waiting for it') && resolve(),
          ),
        ),
    ),
  )
  await waits
  writeFileSync(join(dir, 'gate'), 'go\n')
  t.same(await Promise.all([first.code, second.code]), [3, 3])
  t.equal(installs(), 1)
})

t.test('setup says in one line that the registry cannot be reached', async (t) => {
  const { start } = checkout(t, 'echo "npm ERR! code ENOTFOUND" >&2; exit 1')
  const { code, err } = start('hello.ts')
  t.equal(await code, 1)
  t.match(await err, /cannot reach the package registry \(ENOTFOUND\); check the network or proxy/)
})

t.test('setup shows what npm said about anything else', async (t) => {
  const { start } = checkout(t, 'echo "npm error code EUSAGE" >&2; exit 1')
  const { code, err } = start('hello.ts')
  t.equal(await code, 1)
  t.match(await err, /npm ci failed \(EUSAGE\)/)
})

t.test('setup names the setting that kept the runtime out', async (t) => {
  const { start } = checkout(t, 'mkdir -p node_modules')
  const { code, err } = start('hello.ts')
  t.equal(await code, 1)
  t.match(await err, /npm left out node-linux-.*omit=optional/)
})

t.test('setup passes signals on and ends as its program did', async (t) => {
  const { start } = checkout(t, goodNpm)
  const { child, code } = start('wait.ts')
  await new Promise((resolve) => child.stdout?.once('data', resolve))
  child.kill('SIGTERM')
  t.equal(await code, 7)
})

t.test('setup names the program it needs for its lock', async (t) => {
  const { code, err } = checkout(t, goodNpm, '').start('hello.ts')
  t.equal(await code, 1)
  t.match(await err, /flock was not found; install util-linux/)
})

t.test('setup needs a program to start', async (t) => {
  const { dir, start } = checkout(t, goodNpm)
  mkdirSync(join(dir, 'x'))
  const { code, err } = start()
  t.equal(await code, 1)
  t.match(await err, /usage: node cli\/setup\.mjs/)
})

function run(command: string, words: readonly string[]): Promise<number> {
  return new Promise((resolve) => spawn(command, words).once('close', (code) => resolve(code ?? 1)))
}
