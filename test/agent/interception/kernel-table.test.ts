import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t from 'tap'
import { nothing, type CaptureState, type Endpoint } from '#agent/interception/capture-state.ts'
import { kernelCommands } from '#agent/interception/commands.ts'
import { KernelTable } from '#agent/interception/kernel-table.ts'
import { tableIn, tableShape } from '#test/support/kernel-table.ts'
import { silentLogger } from '#test/support/silent-logger.ts'
import { makeNamespace, networkState } from '#test/support/namespace.ts'
import { lacks } from '#test/support/needs.ts'

const skip = lacks('netns', 'nft')

const at8080 = (address: string): Endpoint => ({ address, port: 8080 })
const state: CaptureState = {
  unknownPort: 17000,
  callers: [
    { kind: 'user', user: 1001, port: 17001 },
    { kind: 'user', user: 1002, port: 17002 },
  ],
  destinations: [
    { address: '240.240.0.1', port: 80, virtual: '240.240.0.1', denied: false },
    { address: 'fd12:3456:789a::1', port: 80, virtual: 'fd12:3456:789a::1', denied: false },
  ],
  dialled: [{ address: '127.0.0.1', port: 8080 }],
  answers: [{ address: '127.0.0.1', port: 8080, users: [0, 1001] }],
  locks: [
    { port: 8080, users: [0, 1001], mode: 'strict' },
    { port: 8081, users: [0, 1002], mode: 'permissive' },
  ],
  exemptUsers: [4242],
  confined: [],
  registered: [],
  standIns: [
    { address: '240.240.0.1', port: 80, to: ['10.0.0.5', '10.0.0.6'].map(at8080) },
    { address: 'fd12:3456:789a::1', port: 80, to: ['fd00::5', '::1'].map(at8080) },
  ],
}

/** Two listeners on the caller ports that say which of them took what, and echo. */
const listener = `
  import net from 'node:net'
  for (const port of [17000, 17001]) for (const host of ['0.0.0.0', '::'])
    net.createServer((s) => {
      s.on('error', () => {})
      s.write(s.localAddress + ' ' + s.localPort)
      s.on('data', (d) => s.write(d))
    }).listen({ port, host, ipv6Only: host === '::' }, () => console.log('open'))
`

/** A caller that holds a connection open and echoes what it is told over it. */
const caller = `
  import net from 'node:net'
  const s = net.connect(80, process.argv[1])
  process.stdin.on('data', (d) => s.write(d))
  s.on('data', (d) => console.log(String(d)))
  s.on('error', (e) => { console.log(e.code); process.exit(1) })
  s.on('close', () => { console.log('closed'); process.exit(1) })
`

t.test(
  'a table is installed, changed, read back, lifted and removed without a trace',
  { skip },
  async (t) => {
    const namespace = makeNamespace(t)
    const before = networkState(namespace)
    const table = tableIn(namespace)
    await table.apply(state)
    t.match(
      namespace.run('ip', 'route', 'show', 'table', 'local'),
      /local 240\.240\.0\.0\/16 dev lo/,
    )
    t.match(
      namespace.run('nft', '-n', 'list', 'table', 'inet', 'hostmesh'),
      /1001 : 17001, 1002 : 17002/,
    )
    t.equal(await table.check(), '', 'what stands is what was asked for')
    const callers = state.callers.slice(1)
    await table.apply({ ...state, callers, locks: [] })
    t.equal(await table.check(), '')
    t.match(
      namespace.run('nft', '-n', 'list', 'map', 'inet', 'hostmesh', 'callers'),
      /\{ 1002 : 17002 \}/,
    )
    await tableIn(namespace).apply(state)
    t.not(await table.check(), '', 'a successor’s changes are noticed')
    await table.remove()
    t.equal(networkState(namespace), before)
    await t.resolves(table.remove(), 'twice is fine')
  },
)

t.test('a kernel that cannot masquerade captures all the same', { skip }, async (t) => {
  const namespace = makeNamespace(t)
  const real = kernelCommands(namespace.enter)
  const nft = async (script: string): Promise<void> => {
    if (script.includes('masquerade')) throw new Error('Could not process rule: No such file')
    await real.nft(script)
  }
  const table = new KernelTable(
    { commands: { ...real, nft }, logger: silentLogger },
    { ...tableShape, masquerades: false },
  )
  await table.apply(state)
  t.equal(await table.check(), '')
  t.match(namespace.run('nft', 'list', 'chain', 'inet', 'hostmesh', 'capture'), '@callers')
})

t.test(
  'live connections survive rules written again, lifted and installed',
  { skip },
  async (t) => {
    const namespace = makeNamespace(t)
    const table = tableIn(namespace)
    const [node, ...words] = [process.execPath, '--input-type=module', '-e'] as const
    const enter = (...command: readonly string[]) =>
      spawn('nsenter', [...namespace.enter.slice(1), ...command], {
        stdio: ['pipe', 'pipe', 'inherit'],
      })
    const server = enter(node, ...words, listener)
    t.teardown(() => server.kill())
    await once(server.stdout, 'data')
    await table.apply(state)
    const held = ['240.240.0.1', 'fd12:3456:789a::1'].map((address) => {
      const child = enter(node, ...words, caller, address)
      t.teardown(() => child.kill())
      return { address, child }
    })
    for (const { address, child } of held) {
      const [greeting] = (await once(child.stdout, 'data')) as [Buffer]
      t.match(String(greeting), `${address} 17000`)
    }
    const alive = async (when: string): Promise<void> => {
      for (const { child } of held) {
        child.stdin.write(when)
        const [echo] = (await once(child.stdout, 'data')) as [Buffer]
        t.equal(String(echo).trim(), when)
      }
    }
    await alive('at first')
    await table.apply({ ...state, destinations: [], callers: [] })
    await alive('with empty maps')
    const successor = tableIn(namespace)
    await successor.apply(state)
    await alive('with rules written again')
    await successor.apply(nothing)
    await alive('lifted')
    t.equal(await successor.check(), '')
    await successor.apply({ ...state, unknownPort: 17001 })
    await alive('captured again')
  },
)

t.test('a foreign flush is repaired, a foreign table is refused', { skip }, async (t) => {
  const namespace = makeNamespace(t)
  const table = tableIn(namespace)
  await table.apply(state)
  namespace.run('nft', 'flush', 'ruleset')
  t.equal(await table.check(), 'the table was gone')
  namespace.run('nft', 'flush', 'chain', 'inet', 'hostmesh', 'guard_in')
  t.match(await table.check(), 'chain guard_in had 0 rules')
  namespace.run('nft', 'delete', 'element', 'inet', 'hostmesh', 'callers', '{ 1001 }')
  t.match(await table.check(), 'elements had been changed')
  namespace.run('ip', 'route', 'del', 'local', '240.240.0.0/16', 'dev', 'lo')
  t.match(await table.check(), 'route of 240.240.0.0/16')
  t.equal(await table.check(), '')

  const other = tableIn(namespace, { owner: '/run/other' })
  await t.rejects(other.apply(state), { code: 'foreign-table' })
  await table.remove()
  namespace.run('nft', 'add', 'table', 'inet', 'hostmesh')
  await t.rejects(table.apply(state), { code: 'foreign-table' })
})

t.test('without the right to it nothing is changed, and the fix is named', { skip }, async (t) => {
  const namespace = makeNamespace(t)
  const enter = [
    ...namespace.enter,
    'setpriv',
    '--reuid=65534',
    '--clear-groups',
    '--inh-caps=-all',
  ]
  const table = new KernelTable(
    { commands: kernelCommands(enter), logger: silentLogger },
    tableShape,
  )
  await t.rejects(table.apply(nothing), { code: 'capture-not-permitted', hint: /CAP_NET_ADMIN/ })
  const capable = ['--inh-caps=-all,+net_admin', '--ambient-caps=-all,+net_admin']
  const commands = kernelCommands([...enter.slice(0, -1), ...capable])
  await new KernelTable({ commands, logger: silentLogger }, tableShape).apply(state)
  t.match(namespace.run('nft', 'list', 'tables'), 'hostmesh', 'CAP_NET_ADMIN alone is enough')
})

/** Old and new generation of a worker: each echoes what it takes, and stops listening when told. */
const generation = `
  import net from 'node:net'
  const port = Number(process.argv[1])
  const servers = ['0.0.0.0', '::'].map((host) => net.createServer((s) => {
      s.on('error', () => {})
      s.on('data', (d) => s.write(port + String(d)))
    }).listen({ port, host, ipv6Only: host === '::' }, () => console.log('open')))
  process.stdin.on('data', () => { for (const one of servers) one.close(); console.log('shut') })
`

/** Holds connections and says a word over all of them; prints the answers of each round, sorted. */
const crowd = `
  import net from 'node:net'
  const all = []
  for (let n = 0; n < 100; n++) all.push(net.connect(80, process.argv[1 + n % 2]))
  let heard = []
  for (const s of all) s.on('error', (e) => console.log(e.code)).on('close', () => console.log('closed'))
    .on('data', (d) => { heard.push(String(d)); if (heard.length === all.length) {
      console.log([...new Set(heard)].sort().join()); heard = [] } })
  process.stdin.on('data', (d) => { for (const s of all) s.write(d) })
`

t.test(
  'a hundred connections stay with the ports they were led to when the maps lead to new ones',
  { skip },
  async (t) => {
    const namespace = makeNamespace(t)
    const table = tableIn(namespace)
    const program = async (text: string, args: readonly string[], isOpen: boolean) => {
      const words = [process.execPath, '--input-type=module', '-e', text, ...args]
      const child = spawn('nsenter', [...namespace.enter.slice(1), ...words], {
        stdio: ['pipe', 'pipe', 'inherit'],
      })
      t.teardown(() => child.kill())
      if (isOpen) await once(child.stdout, 'data')
      return child
    }
    const old = await program(generation, ['17000'], true)
    await program(generation, ['18000'], true)
    await table.apply(state)
    const addresses = ['240.240.0.1', 'fd12:3456:789a::1']
    const say = async (holder: Awaited<ReturnType<typeof program>>, word: string) => {
      holder.stdin.write(word)
      return String(((await once(holder.stdout, 'data')) as [Buffer])[0]).trim()
    }
    const before = await program(crowd, addresses, false)
    t.equal(await say(before, ' one'), '17000 one')
    await table.apply({ ...state, unknownPort: 18000 })
    t.equal(await say(before, ' two'), '17000 two')
    old.stdin.write('close')
    await once(old.stdout, 'data')
    const after = await program(crowd, addresses, false)
    t.equal(await say(after, ' three'), '18000 three')
    t.equal(await say(before, ' four'), '17000 four', 'nor do they notice that the old port closes')
  },
)
