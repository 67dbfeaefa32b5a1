import t from 'tap'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { flagsOf } from '#agent/roles.ts'
import { placeAgent } from '#test/support/agent-process.ts'
import { root } from '#test/support/sources.ts'
import { testDirectory } from '#test/support/test-directory.ts'

const place = placeAgent(testDirectory(t), { controller: '127.0.0.1:9' })

/** Starts a worker that finds no control process; answers its command line once it says so. */
async function startWorker(cache: string): Promise<readonly string[]> {
  const main = join(root, 'agent/main.ts')
  const words = [main, 'proxy', '--config', place.configPath, '--worker', '7-2']
  const child = spawn(process.execPath, words, {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { NODE_COMPILE_CACHE: cache },
  })
  const ended = once(child, 'exit')
  try {
    let output = ''
    for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
      output += chunk.toString()
      if (output.includes('control process away')) break
    }
    t.match(output, '"worker":"7-2"')
    // The same process all along: whoever started it still knows it by its id.
    return readFileSync(`/proc/${child.pid}/cmdline`, 'utf8').split('\0')
  } finally {
    child.kill('SIGKILL')
    await ended
  }
}

t.test('a worker goes on without what it took to start', async (t) => {
  const cache = join(place.directory, 'cache')
  const first = await startWorker(cache)
  for (const flag of flagsOf.proxy) t.ok(first.includes(flag), flag)
  t.equal(first[first.indexOf('--starts') + 1], '3', 'the first start of all strips the types')
  const slice = JSON.parse(first[first.indexOf('--slice') + 1] ?? '') as unknown
  t.strictSame(slice, { runDirectory: `${place.directory}/run`, drainMs: 1000, logLevel: 'info' })

  const second = await startWorker(cache)
  t.equal(second[second.indexOf('--starts') + 1], '2', 'every other finds its code')
})

t.test('a worker with a bad config says so and ends', async (t) => {
  const bad = placeAgent(testDirectory(t), { controller: '127.0.0.1:9', drainMs: 'long' })
  const words = [join(root, 'agent/main.ts'), 'proxy', '--config', bad.configPath]
  const child = spawn(process.execPath, words, { stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()))
  const [code] = (await once(child, 'close')) as [number | null]
  t.equal(code, 78)
  t.match(said, 'drainMs')
})

t.test('the agent tells its version and its usage, and starts nothing', async (t) => {
  const say = async (word: string): Promise<readonly [number | null, string]> => {
    const child = spawn(process.execPath, [join(root, 'agent/main.ts'), word], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let said = ''
    child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()))
    const [code] = (await once(child, 'close')) as [number | null]
    return [code, said]
  }
  t.match(await say('--version'), [0, /^mesh-agent \d+\.\d+\.\d+\n$/])
  t.match(await say('--help'), [0, /^usage: main\.ts control/])
})
