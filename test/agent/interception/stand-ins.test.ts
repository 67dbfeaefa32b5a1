import t from 'tap'
import type { ClaimingService } from '#agent/interception/claims.ts'
import { standInsOf } from '#agent/interception/stand-ins.ts'
import { must, parseInstanceId, parseServiceName } from '#shared/model/names.ts'
import { targetsOf } from '#shared/model/service-targets.ts'
import type { InstanceView, Snapshot } from '#shared/model/snapshot.ts'
import { snapshotOf } from '#test/support/snapshots.ts'

const orders = must(parseServiceName('orders'))
const virtual = ['240.240.0.1', 'fd12:1:2::1']

function standIns(
  hosts: readonly string[],
  more: Partial<InstanceView> | ((host: string) => Partial<InstanceView>) = { plain: true },
  local?: Partial<ClaimingService>,
  { self = 'self', addresses = [] as readonly string[], masquerades = true } = {},
) {
  const known = snapshotOf(hosts.map((host) => ({ service: 'orders', host, port: 8080 })))
  const view = known.services['orders']
  if (view === undefined) throw new Error('no service')
  const instances = view.instances.map((one) => ({
    ...one,
    ...(typeof more === 'function' ? more(one.host) : more),
  }))
  const [target] = targetsOf({ ...view, instances })
  if (target === undefined) throw new Error('no target')
  const addressed = Object.entries(known.hosts).map(([name, host], n) => [
    name,
    { ...host, address: addresses[n] ?? `10.0.0.${n + 2}` },
  ])
  const snapshot = { ...known, host: self, hosts: Object.fromEntries(addressed) } as Snapshot
  const locals = local === undefined ? [] : [{ ...here, ...local }]
  return standInsOf(target, virtual, [80, 8080], { locals, snapshot, masquerades })
}

const here: ClaimingService = {
  service: orders,
  at: { address: '127.0.0.1', port: 8080 },
  holdsPort: true,
  inbound: 'permissive',
  intercept: [],
  onAgentDown: 'direct',
}

t.test('a virtual IP leads to instances of other hosts that may be called in plain', async (t) => {
  const address = '10.0.0.2'
  t.same(standIns(['b']), [
    { address: '240.240.0.1', port: 80, to: [{ address, port: 8080 }] },
    { address: '240.240.0.1', port: 8080, to: [{ address, port: 8080 }] },
  ])
  t.same(standIns(['b'], {}), [], 'not where it is locked, or listens elsewhere')
  t.same(standIns(['b'], { plain: true, onAgentDown: 'deny' }), [])
  const one = standIns(['b', 'c'], (host) =>
    host === 'b' ? { plain: true } : { onAgentDown: 'deny' },
  )
  t.same(one, [], 'who says deny says it of the service')
})

t.test('what another host says of itself leads nowhere but to another machine', async (t) => {
  const at = (address: string) =>
    standIns(['b'], { plain: true }, undefined, { addresses: [address] })
  for (const address of ['127.0.0.1', '::1', '0.0.0.0', '240.240.0.9', '169.254.0.1']) {
    t.same(at(address), [], address)
  }
  const [six] = at('fd00::b')
  t.same(six?.to, [{ address: 'fd00::b', port: 8080 }])
})

t.test('deny counts while the instance that says so cannot be called at this port', async (t) => {
  const known = snapshotOf([{ service: 'orders', host: 'b', port: 8080 }])
  const view = known.services['orders']
  const [target] = view === undefined ? [] : targetsOf(view)
  const [instance] = view?.instances ?? []
  if (view === undefined || target === undefined || instance === undefined) throw new Error('none')
  const plain: InstanceView = { ...instance, plain: true }
  const denying: InstanceView = { ...instance, id: must(parseInstanceId('2')), onAgentDown: 'deny' }
  const led = (instances: readonly InstanceView[], heldBy?: string) => {
    const services = { orders: { ...view, instances } }
    const hosts = { b: { address: '10.0.0.2', ...(heldBy === undefined ? {} : { heldBy }) } }
    const snapshot = { ...known, host: 'self', services, hosts } as unknown as Snapshot
    return standInsOf({ ...target, instances: [plain] }, virtual, [80], { locals: [], snapshot })
  }
  t.equal(led([plain]).length, 1)
  t.same(led([plain, denying]), [])
  t.same(led([plain], 'c'), [], 'nor is the address of one host another one’s')
})

t.test('an instance of the host itself goes first, wherever it listens', async (t) => {
  const to = (local: Partial<ClaimingService>) =>
    standIns(['self', 'b'], (host) => (host === 'b' ? { plain: true } : {}), local)[0]?.to
  t.same(to({}), [{ address: '127.0.0.1', port: 8080 }])
  t.not(to({ inbound: 'strict' })?.[0]?.address, '127.0.0.1', 'strict is never called in plain')
  t.equal(to({ onAgentDown: 'deny' }), undefined)
  for (const inbound of ['off', 'permissive'] as const) {
    const led = to({ inbound, isGuarded: true })
    t.same(led, [{ address: '10.0.0.2', port: 8080 }], 'nor is who names his callers')
  }
  t.not(to({ at: { address: '127.0.0.1', port: 9 } })?.[0]?.port, 9, 'a port it does not serve')
  const six = standIns(['self'], {}, { at: { address: '::1', port: 8080 } })
  t.same([six.length, six[0]?.address], [2, 'fd12:1:2::1'], 'each family leads to its own')
})

t.test('of many instances two stand in, others from host to host', async (t) => {
  const all = ['b', 'c', 'd', 'e', 'f']
  const seen = new Set<string>()
  for (const self of ['h1', 'h2', 'h3', 'h4', 'h5', 'h6', 'h7', 'h8']) {
    const [first] = standIns(all, { plain: true }, undefined, { self })
    t.equal(first?.to.length, 2)
    t.same(
      standIns(all, { plain: true }, undefined, { self })[0],
      first,
      'the same while they last',
    )
    seen.add(first?.to.map(({ address }) => address).join() ?? '')
  }
  t.ok(seen.size > 1)
})

t.test('an instance that comes or goes moves no other stand-in', async (t) => {
  const all = ['b', 'c', 'd', 'e', 'f']
  const addressOf = (host: string): string => `10.0.0.${all.indexOf(host) + 2}`
  const among = (hosts: readonly string[]): readonly string[] =>
    standIns(hosts, { plain: true }, undefined, { addresses: hosts.map(addressOf) })[0]?.to.map(
      ({ address }) => address,
    ) ?? []
  const before = among(all)
  for (const gone of all) {
    const after = among(all.filter((one) => one !== gone))
    const stayed = before.filter((address) => address !== addressOf(gone))
    t.same(
      stayed.filter((address) => after.includes(address)),
      stayed,
      `${gone} goes`,
    )
    t.equal(after.length, 2)
  }
})

t.test('without masquerade only an instance of this host stands in', async (t) => {
  const without = { masquerades: false }
  t.same(standIns(['b'], { plain: true }, undefined, without), [])
  const here = standIns(['b', 'self'], { plain: true }, {}, without)
  t.same(here[0]?.to, [{ address: '127.0.0.1', port: 8080 }])
})
