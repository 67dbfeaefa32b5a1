/**
 * What users who are not root may put into the mesh: services that are theirs, at ports that are theirs,
 * and by no detour what belongs to somebody else on the same host.
 */

import { chownSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import t from 'tap'
import type { Child } from '#cli/demo/child.ts'
import type { ManifestReport } from '#shared/model/admin-services.ts'
import { curlAs, userCommand } from '#test/support/local-user.ts'
import { MeshWorld } from '#test/support/mesh-world.ts'
import { lacks } from '#test/support/needs.ts'

// Programs start here; on a busy machine each takes seconds.
t.setTimeout(300_000)

/** Users of every Debian, by their numbers. */
const users = { daemon: 1, games: 5 } as const

/** Tells who answers, and writes down what it is asked. */
const program = `const [, name, port, address] = process.argv
  require('node:http').createServer((request, response) => {
    console.log('asked for ' + request.url)
    response.end('this is ' + name)
  }).listen(Number(port), address)`

t.test('a user offers what is his, and nothing of somebody else', async (t) => {
  const skip = lacks('netns', 'nft', 'curl', 'setpriv')
  if (skip !== '') {
    t.plan(0, skip)
    return
  }
  const mesh = await MeshWorld.raise(t, { places: 'namespaces' })
  const { alpha, beta } = mesh
  const serve = (user: keyof typeof users, name: string, port: number, at: string): Child => {
    const words = [process.execPath, '-e', program, name, `${port}`, at]
    return beta.start(name, userCommand(users[user], ...words))
  }
  const asked = (name: string): readonly string[] =>
    readFileSync(beta.path(`${name}.log`), 'utf8').match(/asked for .*/g) ?? []
  mkdirSync(beta.path('mesh.d/daemon'), { mode: 0o755 })
  chownSync(beta.path('mesh.d/daemon'), users.daemon, users.daemon)
  const drop = (manifest: object): void => {
    const file = beta.path('mesh.d/daemon/daemon.json')
    writeFileSync(file, JSON.stringify(manifest))
    chownSync(file, users.daemon, users.daemon)
  }
  /** Waits until what is said of the user's file is so. */
  const told = async (what: string, holds: (report: ManifestReport) => boolean): Promise<void> => {
    await mesh.until(what, async () =>
      (await beta.admin.ask('manifests')).some(
        (report) => report.file.endsWith('/daemon/daemon.json') && holds(report),
      ),
    )
  }
  const refused = async (manifest: object, problem: RegExp): Promise<void> => {
    drop(manifest)
    await told(`${problem}`, ({ problems }) => problems.some((one) => problem.test(one)))
  }

  serve('games', 'orders', 8080, '0.0.0.0')
  const vault = serve('games', 'vault', 7000, '127.0.0.1')
  const run = { user: `${users.games}` }
  beta.dropManifest('orders', { port: 8080, run, allow: ['nobody-at-all'] })
  await mesh.sees(alpha, 'orders', ['beta'])
  t.match(await curlAs(beta, 'daemon', 'http://orders.mesh/'), /default deny/)

  // At another address of the same socket.
  for (const address of ['127.0.0.2', '::1'])
    await refused({ address, port: 8080 }, /port 8080.* is taken by .*orders\.json, the admin/)
  const elsewhere = { kind: 'http', port: 8080, path: '/wipe' }
  await refused({ port: 7001, health: elsewhere }, /port 8080 is none of the service’s/)
  t.notMatch(asked('orders').join(), '/wipe')

  // A program that no manifest names.
  drop({ port: 7000, health: { kind: 'http', path: '/wipe' } })
  await told('whose the port is', (report) => report.healthDetail.startsWith('not asked'))
  await told(
    'it is not offered',
    ({ withheld, published }) => !published && /another/.test(withheld),
  )
  drop({ port: 7000, health: { kind: 'push', initial: 'passing' } })
  await told(
    'nor is it where nothing is checked',
    ({ health, withheld }) => health === 'passing' && /another user listens/.test(withheld),
  )
  t.strictSame(asked('vault'), [], 'nobody asks it for him')

  drop({ port: 7000 })
  vault.kill()
  await vault.ended
  const own = serve('daemon', 'own', 7000, '127.0.0.1')
  await mesh.sees(alpha, 'daemon', ['beta'])
  t.match(await curlAs(alpha, 'games', 'http://daemon.mesh/'), 'this is own')
  own.kill()
  await own.ended
  serve('games', 'vault', 7000, '127.0.0.1')
  await mesh.sees(alpha, 'daemon', [])
  t.notMatch(await curlAs(alpha, 'games', 'http://daemon.mesh/'), 'this is vault')
})
