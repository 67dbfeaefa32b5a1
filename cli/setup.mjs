/**
 * Owns the first second of every command of this checkout: packages in place, pinned runtime able
 * to run, then the TypeScript program named on the command line takes over. Plain JavaScript for
 * Node 18 and later; it knows nothing of what it starts.
 */

import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { accessSync, constants, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { installPackages } from './debian.mjs'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const modules = join(root, 'node_modules')
const stamp = join(modules, '.hostmesh-setup')
const runtime = join(modules, `node-linux-${process.arch}`, 'bin', 'node')
const install = '--install-packages'

/** Everything goes to stderr: stdout belongs to the program that is started. */
function say(line) {
  process.stderr.write(`hostmesh: ${line}\n`)
}

function fail(line) {
  say(line)
  process.exit(1)
}

function checkMachine() {
  const major = Number(process.versions.node.split('.')[0])
  if (major < 18) fail(`this is Node ${process.version}; set-up needs Node 18 or later`)
  if (process.platform !== 'linux' || !['x64', 'arm64'].includes(process.arch))
    fail(`this is ${process.platform} on ${process.arch}; Hostmesh runs on Linux on x64 or arm64`)
}

/** What the installed packages must have been made from. */
function wantedStamp() {
  const hash = createHash('sha256')
  for (const name of ['package.json', 'package-lock.json', '.taprc'])
    hash.update(readFileSync(join(root, name))).update('\0')
  return `${hash.digest('hex')} ${process.arch}\n`
}

function packagesInPlace() {
  return existsSync(stamp) && readFileSync(stamp, 'utf8') === wantedStamp() && existsSync(runtime)
}

/**
 * Runs the installation under a lock of the kernel, which a crash cannot leave behind, so that two
 * commands started at once never write `node_modules` together.
 */
async function installOnce() {
  try {
    accessSync(root, constants.W_OK)
  } catch {
    fail(`packages are missing and ${root} is not writable; run this once as its owner`)
  }
  const lock = join(root, '.setup.lock')
  const again = [process.execPath, fileURLToPath(import.meta.url), install]
  const taken = await run('flock', ['-F', '-n', '-E', '75', lock, ...again])
  if (taken === 0) return
  if (taken === 127) fail('flock was not found; install util-linux')
  if (taken !== 75) process.exit(1)
  say('another command is setting up this checkout; waiting for it')
  if ((await run('flock', ['-F', lock, ...again])) !== 0) process.exit(1)
}

async function installPackagesOfNpm() {
  if (packagesInPlace()) return
  const done = progress('setting up: installing packages (once, about 150 MB)')
  const failure = await npmCi()
  done()
  if (failure !== '') fail(failure)
  prepareRuntime()
  const build = spawnSync(runtime, [join(modules, 'tap/dist/esm/run.mjs'), 'build'], {
    cwd: root,
    encoding: 'utf8',
  })
  if (build.status !== 0) fail(`cannot prepare the test runner: ${lastLine(build.stderr)}`)
  writeFileSync(stamp, wantedStamp())
  say('set-up done')
}

/** Answers what is wrong, or an empty string. */
async function npmCi() {
  const path = process.env.npm_execpath
  const [command, first] = path?.endsWith('npm-cli.js') ? [process.execPath, [path]] : ['npm', []]
  const words = ['ci', '--include=dev', '--include=optional', '--ignore-scripts']
  const child = spawn(
    command,
    [...first, ...words, '--no-audit', '--no-fund', '--loglevel=error'],
    {
      cwd: root,
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  )
  let said = ''
  child.stderr.on('data', (chunk) => (said = (said + chunk).slice(-20_000)))
  const code = await ended(child)
  if (code === 0)
    return existsSync(runtime)
      ? ''
      : `npm left out node-linux-${process.arch}; is "omit=optional" set in your npm configuration?`
  if (code === 127) return 'npm was not found; install npm 9 or later'
  const why = /npm (?:ERR!|error) (?:code )?(\S.*)/.exec(said)?.[1] ?? `exit code ${code}`
  return /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENETUNREACH/.test(said)
    ? `cannot reach the package registry (${why}); check the network or proxy, then run this again`
    : `npm ci failed (${why}):\n${said.trimEnd()}`
}

/** Makes sure that the pinned runtime starts: a minimal Debian lacks one library. */
function prepareRuntime() {
  const libraries = ['/lib', '/usr/lib', '/lib64', '/usr/lib64']
  const triplet = process.arch === 'x64' ? 'x86_64-linux-gnu' : 'aarch64-linux-gnu'
  if (libraries.some((at) => existsSync(`${at}/${triplet}/libatomic.so.1`))) return
  const probe = () => spawnSync(runtime, ['--version'], { encoding: 'utf8' })
  const first = probe()
  if (first.status === 0) return
  if (!first.stderr?.includes('libatomic'))
    fail(`the runtime ${runtime} does not start: ${first.error?.message ?? lastLine(first.stderr)}`)
  const problem = installPackages(['libatomic1'], say)
  if (problem !== '') fail(`the runtime needs libatomic.so.1: ${problem}`)
  const second = probe()
  if (second.status !== 0) fail(`the runtime does not start: ${lastLine(second.stderr)}`)
}

/** Shows that something goes on: a running count on a terminal, a line every ten seconds elsewhere. */
function progress(title) {
  const began = Date.now()
  const seconds = () => Math.round((Date.now() - began) / 1000)
  const live = process.stderr.isTTY === true
  say(title)
  const timer = setInterval(
    () => {
      if (live) process.stderr.write(`\rhostmesh: … ${seconds()} s`)
      else say(`… ${seconds()} s`)
    },
    live ? 1000 : 10_000,
  )
  return () => {
    clearInterval(timer)
    if (live && seconds() >= 1) process.stderr.write('\r\x1b[K')
  }
}

/** Starts a program on this terminal; answers its exit code, and passes every signal on. */
function run(command, words) {
  const child = spawn(command, words, { cwd: root, stdio: 'inherit' })
  return ended(child)
}

function ended(child) {
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP']
  const pass = (signal) => child.kill(signal)
  for (const signal of signals) process.on(signal, pass)
  return new Promise((resolve) => {
    const finish = (code) => {
      for (const signal of signals) process.off(signal, pass)
      resolve(code)
    }
    child.once('error', (error) => finish(error.code === 'ENOENT' ? 127 : 126))
    child.once('exit', (code, signal) => {
      finish(code ?? 1)
      if (signal !== null) process.kill(process.pid, signal)
    })
  })
}

function lastLine(text) {
  return `${text ?? ''}`.trim().split('\n').at(-1) ?? ''
}

const [program, ...words] = process.argv.slice(2)
checkMachine()
if (program === install) {
  await installPackagesOfNpm()
} else {
  if (program === undefined) fail('usage: node cli/setup.mjs <program.ts> [words…]')
  if (!packagesInPlace()) await installOnce()
  prepareRuntime()
  const child = spawn(runtime, [join(root, program), ...words], { stdio: 'inherit' })
  process.exitCode = await ended(child)
}
