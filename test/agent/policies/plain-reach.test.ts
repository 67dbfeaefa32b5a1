import t from 'tap'
import type { OpenPorts } from '#agent/policies/listening.ts'
import type { Place } from '#agent/kernel/sockets.ts'
import { PlainReach } from '#agent/policies/plain-reach.ts'
import { must, parseServiceName } from '#shared/model/names.ts'
import { readManifest } from '#shared/schema/manifest.ts'
import { FakeClock } from '#test/support/fake-clock.ts'

function manifestOf(name: string, more: object) {
  const reading = readManifest(`${name}.json`, Buffer.from(JSON.stringify({ port: 8080, ...more })))
  if (!reading.ok) throw new Error(JSON.stringify(reading.problems))
  return reading.manifest
}

t.test(
  'only what is not locked and listens at the host’s address may be called in plain',
  async (t) => {
    const clock = new FakeClock()
    let open: OpenPorts = new Map()
    let looks = 0
    let changes = 0
    let guarded = ['guarded', 'judged']
    let manifests = [
      manifestOf('a', {}),
      manifestOf('strict', { inbound: 'strict' }),
      manifestOf('guarded', {}),
      manifestOf('off', { inbound: 'off' }),
      manifestOf('judged', { inbound: 'off' }),
      manifestOf('two', { ports: { admin: 9090 } }),
      manifestOf('caller', { port: undefined, run: { user: 'x' } }),
    ]
    const reach = new PlainReach(
      {
        clock,
        manifests: () => manifests,
        isUp: () => true,
        policyOf: (service) => ({ strict: guarded.includes(service) }),
        onChange: () => void changes++,
        openPorts: () => (looks++, open),
      },
      { address: '10.0.0.5', everyMs: 5000 },
    )
    t.teardown(() => reach.stop())
    const plain = (): readonly string[] =>
      manifests.filter((one) => reach.has(one)).map(({ service }) => service)
    t.notOk(reach.look())
    t.same(plain(), [])
    reach.start()
    for (const address of ['10.0.0.5', '0.0.0.0', '::']) {
      open = new Map([[8080, [address]]])
      await clock.advance(5000)
      t.same(plain(), ['a', 'off'], address)
      t.notOk(reach.look(), 'nothing new')
      open = new Map([[8080, ['10.0.0.6']]])
      await clock.advance(5000)
      t.same(plain(), [])
    }
    t.equal(changes, 6)
    open = new Map([8080, 9090].map((port) => [port, ['0.0.0.0']]))
    t.ok(reach.look())
    t.same(plain(), ['a', 'off', 'two'])
    guarded = ['guarded', 'judged', 'a']
    t.same(plain(), ['off', 'two'], 'whoever has just named his callers is not waited for')
    const [first, ...rest] = manifests
    if (first === undefined) throw new Error('no manifest')
    guarded = []
    manifests = [manifestOf('a', { inbound: 'strict' }), ...rest]
    t.notOk(plain().includes(first.service), 'nor who has just locked his port')
    manifests = []
    const before = looks
    t.ok(reach.look())
    t.equal(looks, before, 'the kernel is not asked for nothing')
  },
)

/** A reach whose services listen at every address, and what it was asked and may be told. */
function setUp() {
  const state = {
    up: new Set<string>(),
    strict: new Set<string>(),
    manifests: [manifestOf('a', {}), manifestOf('b', { port: 8081 })],
    looks: 0,
    asked: [] as readonly Place[],
  }
  const reach = new PlainReach(
    {
      clock: new FakeClock(),
      manifests: () => state.manifests,
      policyOf: (service) => ({ strict: state.strict.has(service) }),
      isUp: (service) => state.up.has(service),
      onChange: () => {},
      openPorts: (wanted) => {
        state.looks++
        state.asked = wanted
        return new Map([8080, 8081, 9090].map((port) => [port, ['0.0.0.0']]))
      },
    },
    { address: '10.0.0.5' },
  )
  return { reach, state }
}

t.test('the kernel is asked again only where the answer may be another one', async (t) => {
  const { reach, state } = setUp()
  const { up, strict, manifests } = state
  const looked = (): number => {
    told = [...reach.lookIfNews()]
    return state.looks
  }
  let told: readonly string[] = []
  t.equal(looked(), 0, 'none is up')
  for (const [index, service] of ['a', 'b', 'a'].entries()) {
    up.add(service)
    t.equal(looked(), index + 1, `${service} has come up`)
    t.same(state.asked, [{ address: '10.0.0.5', port: service === 'a' ? 8080 : 8081 }], 'it alone')
    t.same(told, index < 2 ? [service] : [], 'only who may be called so now, and could not before')
    t.equal(looked(), index + 1, 'nothing new')
    t.same(told, [])
    t.ok(reach.has(manifests[0]!))
    up.delete('a')
    t.equal(looked(), index + 1, 'what is down is no news')
  }
  strict.add('a')
  t.equal(looked(), 3, 'one that is locked now is not looked for')
  t.same(told, ['a'])
  t.notOk(reach.has(manifests[0]!))
  t.equal(looked(), 3)
  up.add('a')
  strict.delete('a')
  t.equal(looked(), 4, 'one that is unlocked again is')
  t.same(told, ['a'])
  strict.add('a')
  t.equal(looked(), 4)
  strict.delete('a')
  t.equal(looked(), 5, 'also where it has been up all the while')
  t.same(told, ['a'])
  up.delete('a')
  manifests[1] = manifestOf('b', { port: 9090 })
  up.delete('b')
  t.equal(looked(), 6, 'one has moved')
  t.same(state.asked, [{ address: '10.0.0.5', port: 9090 }])
  t.same(told, [], 'and may be called as before')
  t.ok(reach.has(manifests[1]))
  manifests.pop()
  t.equal(looked(), 6, 'one has gone')
  t.same(told, ['b'])
})

t.test('asked about some, it looks at nobody else', async (t) => {
  const { reach, state } = setUp()
  const { up, strict } = state
  for (const service of ['a', 'b']) up.add(service)
  const told = (...some: readonly string[]) => {
    state.asked = []
    return [...reach.lookIfNews(new Set(some.map((name) => must(parseServiceName(name)))))]
  }
  t.same(told(), [])
  t.same(told('b'), ['b'])
  t.same(state.asked, [{ address: '10.0.0.5', port: 8081 }])
  t.same(told('b'), [])
  t.same(state.asked, [])
  strict.add('b')
  t.same(told('a'), ['a'])
  t.same(told('b'), ['b'], 'who has been locked')
  strict.delete('b')
  t.same(told('a', 'b'), ['b'], 'and unlocked')
  state.manifests = state.manifests.slice(0, 1)
  t.same(told('b'), ['b'], 'and has gone')
  t.ok(reach.has(state.manifests[0]!))
})
