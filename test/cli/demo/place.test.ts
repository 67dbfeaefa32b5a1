import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import t from 'tap'
import { makePlaces } from '#cli/demo/place.ts'
import { needs } from '#test/support/needs.ts'
import { testDirectory } from '#test/support/test-directory.ts'
import { thisMachine } from '#test/support/this-machine.ts'

t.test('makePlaces gives loopback addresses of their own without root', async (t) => {
  const machine = { ...thisMachine, isRoot: false }
  const places = makePlaces({ machine, say: () => {} })
  const [alpha, beta] = places.hosts
  t.equal(places.kind, 'loopback')
  t.equal(new Set([alpha.address, beta.address, places.controller, '127.0.0.1']).size, 4)
  t.match(alpha.address, /^127\./)
  t.same(alpha.enter(['x', 'y']), ['x', 'y'])
})

t.test('makePlaces joins two namespaces and removes them without trace', async (t) => {
  if (!needs(t, 'netns')) return
  const places = makePlaces({ machine: thisMachine, say: (line) => t.comment(line) })
  t.teardown(places.remove)
  t.equal(places.kind, 'namespaces')
  const [alpha, beta] = places.hosts
  const [command = '', ...words] = alpha.enter(['ip', '-brief', 'address'])
  const addresses = execFileSync(command, words, { encoding: 'utf8' })
  t.match(addresses, places.controller)
  t.match(addresses, alpha.address)
  t.notMatch(addresses, beta.address)
  const names = ['alpha', 'beta'].map((name) => `/run/netns/hostmesh-${thisMachine.pid}-${name}`)
  t.ok(names.every((name) => existsSync(name)))
  places.remove()
  t.notOk(names.some((name) => existsSync(name)))
  places.remove()
})

t.test(
  'makePlaces gives each of several worlds of one process namespaces of its own',
  async (t) => {
    if (!needs(t, 'netns')) return
    const worlds = [1, 2].map(() => makePlaces({ machine: thisMachine, say: () => {} }))
    t.teardown(() => worlds.forEach(({ remove }) => remove()))
    t.equal(new Set(worlds.map(({ namespace }) => namespace)).size, 2)
    worlds[0]?.remove()
    t.ok(existsSync(`/run/netns/${worlds[1]?.namespace}`), 'one goes without the other')
  },
)

t.test('makePlaces sweeps namespaces of a demo that was killed', async (t) => {
  if (!needs(t, 'netns')) return
  const orphan = 'hostmesh-4194999-alpha'
  execFileSync('ip', ['netns', 'add', orphan])
  const machine = { ...thisMachine, isAlive: (pid: number) => pid !== 4194999 }
  makePlaces({ machine, say: () => {} }).remove()
  t.notOk(existsSync(`/run/netns/${orphan}`))
})

t.test('makePlaces falls back to loopback where namespaces cannot be made', async (t) => {
  const said: string[] = []
  const machine = { ...thisMachine, isRoot: true, environment: { PATH: testDirectory(t) } }
  t.equal(makePlaces({ machine, say: (line) => said.push(line) }).kind, 'loopback')
  t.match(said, [/no network namespaces here \(.*ip.*\)/])
})
