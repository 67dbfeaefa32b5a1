import { connect } from 'node:net'
import { stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import t from 'tap'
import { closed } from '#test/support/closed.ts'
import { shortDir } from '#test/support/short-dir.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { self, snapshotOf } from '#test/support/snapshots.ts'
import { until } from '#test/support/until.ts'
import { systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import { createLogger } from '#shared/logging/logger.ts'
import { agentMetrics } from '#shared/metrics/names.ts'
import { must, parseHostName, parseServiceName, parseTrustDomain } from '#shared/model/names.ts'
import type { Snapshot } from '#shared/model/snapshot.ts'
import { parseSpiffeId } from '#shared/model/spiffe-id.ts'
import { noBans } from '#shared/model/trust.ts'
import { ControlLink } from '#agent/workers/control-link.ts'
import { protocol, type ToWorker, type WorkerSettings } from '#agent/workers/messages.ts'
import { WorkerHub } from '#agent/workers/worker-hub.ts'

const logger = createLogger({ name: 'test', level: 'silent' })
const clock = systemClock
const random = systemRandom
const worker: WorkerSettings = {
  tunnel: { address: '127.0.0.1', port: 0 },
  forwardProxy: { address: '127.0.0.1', port: 0 },
  explicitAddress: '127.0.0.1',
  inboundSource: '127.0.0.6',
  accessLog: 'off',
  workers: 2,
  maxConnections: 100,
  callerPorts: 17_000,
  limits: {
    headBytes: 65_536,
    headFields: 100,
    headMs: 10_000,
    bodyIdleMs: 60_000,
    responseIdleMs: 300_000,
    idleMs: 300_000,
  },
}
const live = { accessLog: 'errors', logLevel: 'info' } as const
const trustDomain = must(parseTrustDomain('mesh.internal'))
const epochs = { bundle: 2, bans: 1 }
const trustOf = (bundlePem: string) => ({ bundlePem, trustDomain, bans: noBans, epochs })
const snapshot: Snapshot = {
  revision: 7,
  sequence: 1,
  trustDomain,
  host: must(parseHostName('h1')),
  services: {},
  hosts: {},
  local: [],
  listeners: [],
  policies: {},
}

function startHub(path: string): { hub: WorkerHub; ready: Promise<void> } {
  const hub = new WorkerHub(
    { clock, logger },
    { socketPath: path, worker, live, retireMs: 5000, collectMs: 1500 },
  )
  return { hub, ready: hub.start() }
}

/** A worker's end that remembers what it heard and lets a test wait for it. */
function startLink(path: string): {
  link: ControlLink
  heard: ToWorker[]
  hears: (kind: ToWorker['kind'], count?: number) => Promise<void>
} {
  const heard: ToWorker[] = []
  let wake = (): void => {}
  const link = new ControlLink(
    {
      clock,
      random,
      logger,
      hear: (message) => {
        heard.push(message)
        wake()
      },
      age: () => ({ phase: null, startedAtMs: 1, retiringSinceMs: 0 }),
    },
    { socketPath: path, generation: 1, index: 0, pid: 42, version: '1.2.3' },
  )
  link.start()
  const hears = async (kind: ToWorker['kind'], count = 1): Promise<void> => {
    while (heard.filter((message) => message.kind === kind).length < count) {
      await new Promise<void>((resolve) => (wake = resolve))
    }
  }
  return { link, heard, hears }
}

t.test('WorkerHub hands a worker that connects late the newest of everything', async (t) => {
  const path = `${shortDir(t)}/w.sock`
  const { hub, ready } = startHub(path)
  await ready
  t.equal((await stat(dirname(path))).mode & 0o777, 0o700, 'nor even look for it')
  t.equal((await stat(path)).mode & 0o777, 0o600, 'only this user may open the socket')
  hub.setTrust(trustOf('old'))
  hub.setTrust(trustOf('bundle'))
  hub.setCredentials([])
  hub.setSnapshot(snapshot)
  const { link, heard, hears } = startLink(path)
  await hears('phase')
  t.same(heard, [
    { kind: 'welcome', protocol: protocol.newest, settings: worker },
    { kind: 'settings', settings: live },
    { kind: 'trust', ...trustOf('bundle') },
    { kind: 'credentials', credentials: [] },
    { kind: 'snapshot', snapshot },
    { kind: 'phase', phase: 'live', withinMs: 5000 },
  ])
  t.match(hub.workers, [{ generation: 1, index: 0, pid: 42, version: '1.2.3', phase: 'live' }])
  link.stop({ series: [] })
  await hub.stop()
})

t.test('ControlLink connects again when the control process comes back', async (t) => {
  const path = `${shortDir(t)}/w.sock`
  const first = startHub(path)
  await first.ready
  const { link, hears } = startLink(path)
  await hears('welcome')
  await first.hub.stop()
  const second = startHub(path)
  await second.ready
  second.hub.setSnapshot(snapshot)
  await hears('welcome', 2)
  await hears('snapshot')
  link.stop({ series: [] })
  await second.hub.stop()
})

t.test(
  'WorkerHub tells a crash of a worker from its goodbye, and keeps its last counts',
  async (t) => {
    const path = `${shortDir(t)}/w.sock`
    const { hub, ready } = startHub(path)
    await ready
    const gone = async (): Promise<void> => {
      await until('it is gone', () => hub.workers.length === 0)
    }
    const series = [{ metric: agentMetrics.retries.name, labels: {}, value: 3 }]
    const first = startLink(path)
    await first.hears('welcome')
    t.match(hub.workers, [{ crashes: 0 }])
    first.link.stop({ series })
    await gone()
    t.equal(hub.crashes, 0)
    t.same((await hub.collect()).series, series)

    const crashing = connect(path)
    crashing.write(
      `${JSON.stringify({ kind: 'hello', newest: 1, oldest: 1, generation: 1, index: 0, pid: 7, serving: false })}\n`,
    )
    await until('it is known', () => hub.workers.length === 1)
    crashing.destroy()
    await gone()
    t.equal(hub.crashes, 1)
    const next = startLink(path)
    await next.hears('welcome')
    t.match(hub.workers, [{ crashes: 1 }], 'whoever takes its place shows it')
    await hub.stop()
    next.link.stop({ series: [] })
    t.equal(hub.crashes, 1, 'that this process stops is no crash')
  },
)

t.test('WorkerHub collects from every worker and does not wait for a silent one', async (t) => {
  const path = `${shortDir(t)}/w.sock`
  const { hub, ready } = startHub(path)
  await ready
  const { link, heard, hears } = startLink(path)
  await hears('welcome')
  const silent = startLink(path)
  await silent.hears('welcome')
  const collected = hub.collect()
  await hears('collect')
  const request = heard.find((message) => message.kind === 'collect')?.request ?? -1
  const series = [{ metric: agentMetrics.requests.name, labels: {}, value: 5 }]
  link.send({ kind: 'counters', request, counters: { series } })
  const { series: heardOf, carried } = await collected
  t.same(heardOf, series)
  t.equal(carried, null, 'one that does not answer may carry anything')
  link.stop({ series: [] })
  silent.link.stop({ series: [] })
  await hub.stop()
})

t.test('WorkerHub adds up what workers carry, where all of them tell', async (t) => {
  const path = `${shortDir(t)}/w.sock`
  const { hub, ready } = startHub(path)
  await ready
  t.equal((await hub.collect()).carried, null, 'workers may only not have come yet')
  const workers = [startLink(path), startLink(path)]
  for (const { hears } of workers) await hears('welcome')
  const collected = hub.collect()
  for (const { link, heard, hears } of workers) {
    await hears('collect')
    const request = heard.find((message) => message.kind === 'collect')?.request ?? -1
    const carried = [
      { service: 'orders', open: 2 },
      { service: 'constructor', open: 0 },
    ]
    link.send({ kind: 'counters', request, counters: { series: [] }, carried })
  }
  t.same(
    [...((await collected).carried ?? [])],
    [
      ['orders', 4],
      ['constructor', 0],
    ],
  )
  for (const { link } of workers) link.stop({ series: [] })
  await hub.stop()
})

t.test('WorkerHub refuses a worker with no common protocol version', async (t) => {
  const path = `${shortDir(t)}/w.sock`
  const { hub, ready } = startHub(path)
  await ready
  const socket = connect(path)
  const hello = { kind: 'hello', newest: 99, oldest: 98, generation: 9, index: 0, pid: 1 }
  socket.write(`${JSON.stringify(hello)}\n`)
  socket.resume()
  await closed(socket)
  t.same(hub.workers, [])
  await hub.stop()
})

t.test(
  'WorkerHub drops a connection that does not speak the protocol, and only that',
  async (t) => {
    const path = `${shortDir(t)}/w.sock`
    const { hub, ready } = startHub(path)
    await ready
    const { link, hears } = startLink(path)
    await hears('welcome')
    const socket = connect(path)
    socket.write('GET / HTTP/1.1\r\n\r\n')
    socket.resume()
    await closed(socket)
    t.equal(hub.workers.length, 1)
    link.stop({ series: [] })
    await hub.stop()
  },
)

t.test('WorkerHub says nothing twice', async (t) => {
  const path = `${shortDir(t)}/w.sock`
  const { hub, ready } = startHub(path)
  await ready
  const { link, heard, hears } = startLink(path)
  await hears('welcome')
  for (let i = 0; i < 3; i++) {
    hub.setTrust(trustOf('bundle'))
    hub.setCredentials([])
  }
  hub.setSnapshot(snapshot)
  await hears('snapshot')
  t.same(
    heard.map(({ kind }) => kind),
    ['welcome', 'settings', 'phase', 'trust', 'credentials', 'snapshot'],
  )
  link.stop({ series: [] })
  await hub.stop()
})

t.test('WorkerHub keeps a provisional snapshot from workers that have a view', async (t) => {
  const path = `${shortDir(t)}/w.sock`
  const first = startHub(path)
  await first.ready
  const serving = startLink(path)
  first.hub.setSnapshot(snapshot)
  await serving.hears('snapshot')
  serving.link.send({ kind: 'applied', sequence: snapshot.sequence })
  await first.hub.stop()

  const second = startHub(path)
  await second.ready
  second.hub.setSnapshot({ ...snapshot, revision: 8 }, true)
  const fresh = startLink(path)
  await fresh.hears('snapshot')
  await serving.hears('welcome', 2)
  second.hub.setSnapshot({ ...snapshot, revision: 9 }, true)
  await fresh.hears('snapshot-changes')
  second.hub.setSnapshot({ ...snapshot, revision: 9 })
  await serving.hears('snapshot', 2)
  const revisions = ({ heard }: typeof serving) =>
    heard.flatMap((message) => {
      if (message.kind === 'snapshot') return [message.snapshot.revision]
      return message.kind === 'snapshot-changes' ? [message.changes.revision] : []
    })
  t.same(revisions(serving), [7, 9])
  t.same(revisions(fresh).slice(0, 2), [8, 9])
  second.hub.setSnapshot({ ...snapshot, revision: 10 })
  await serving.hears('snapshot-changes')
  for (const { link } of [serving, fresh]) link.stop({ series: [] })
  await second.hub.stop()
})

t.test('WorkerHub lets a worker that reads slowly skip what is out of date', async (t) => {
  const path = `${shortDir(t)}/w.sock`
  const { hub, ready } = startHub(path)
  await ready
  const socket = connect(path)
  socket.pause()
  const hello = { kind: 'hello', newest: 1, oldest: 1, generation: 1, index: 0, pid: 1 }
  socket.write(`${JSON.stringify({ ...hello, serving: false })}\n`)
  await until('it is connected', () => hub.workers.length === 1)
  const name = (i: number) => must(parseServiceName(`s${i}`))
  const services = Object.fromEntries(
    Array.from({ length: 5000 }, (_, i) => [
      `s${i}`,
      { name: name(i), protocol: 'http' as const, instances: [] },
    ]),
  )
  for (let sequence = 1; sequence <= 50; sequence++)
    hub.setSnapshot({ ...snapshot, sequence, services })
  t.same((await hub.collect()).series, [], 'it is not even asked for counters')
  let text = ''
  const heard = (): number[] =>
    [...text.matchAll(/"sequence":([0-9]+)/g)].map(([, sequence]) => Number(sequence))
  socket.on('data', (chunk: Buffer) => (text += chunk.toString())).resume()
  await until('it has heard the last one', () => heard().includes(50))
  t.ok(heard().length <= 3, `${heard().length} of 50 snapshots were sent`)
  socket.destroy()
  await hub.stop()
})

t.test('WorkerHub agrees with newer and older workers on what both speak', async (t) => {
  const path = `${shortDir(t)}/w.sock`
  const { hub, ready } = startHub(path)
  await ready
  const socket = connect(path)
  socket.resume()
  // A worker of the next version; it has a message and a field this one knows nothing of.
  const range = { newest: protocol.newest + 1, oldest: protocol.newest }
  const hello = { kind: 'hello', ...range, generation: 2, index: 0, pid: 7, more: true }
  socket.write(`${JSON.stringify(hello)}\n${JSON.stringify({ kind: 'weather' })}\n`)
  const listening = { kind: 'listening', state: { tunnelPort: 15008, listeners: [] } }
  socket.write(`${JSON.stringify(listening)}\n`)
  await until('it is known', () => hub.workers[0]?.listening.tunnelPort === 15008)
  t.match(hub.workers, [{ generation: 2, protocol: protocol.newest }])
  socket.destroy()
  await hub.stop()
})

t.test('WorkerHub tells a worker of the version before the whole of everything', async (t) => {
  const path = `${shortDir(t)}/w.sock`
  const { hub, ready } = startHub(path)
  await ready
  let text = ''
  const socket = connect(path).on('data', (chunk: Buffer) => (text += chunk.toString()))
  const hello = { kind: 'hello', newest: 1, oldest: 1, generation: 1, index: 0, pid: 1 }
  socket.write(`${JSON.stringify({ ...hello, serving: false })}\n`)
  hub.setSnapshot(snapshot)
  await until('it has heard the first', () => text.includes('"kind":"snapshot"'))
  hub.setSnapshot({ ...snapshot, revision: 1234 })
  await until('it has heard the second', () => text.includes('1234'))
  t.equal(text.match(/"kind":"snapshot"/g)?.length, 2)
  t.notMatch(text, 'snapshot-changes')
  socket.destroy()
  await hub.stop()
})

t.test(
  'WorkerHub tells what changed of the credentials, and nothing where nothing did',
  async (t) => {
    const path = `${shortDir(t)}/w.sock`
    const { hub, ready } = startHub(path)
    await ready
    const id = (service: string) => must(parseSpiffeId(`spiffe://mesh.internal/service/${service}`))
    const one = (service: string, chainPem: string) => ({
      id: id(service),
      chainPem,
      keyPem: 'k',
      notAfterMs: 1,
      serial: '1',
    })
    hub.setCredentials([one('a', '1'), one('b', '1')])
    const { link, heard, hears } = startLink(path)
    await hears('credentials')
    hub.setCredentials([one('a', '1'), one('b', '1')])
    hub.setCredentials([one('a', '2'), one('c', '1')])
    await hears('credential-changes')
    t.same(heard.at(-1), {
      kind: 'credential-changes',
      changed: [one('a', '2'), one('c', '1')],
      gone: [id('b')],
    })
    link.stop({ series: [] })
    await hub.stop()
  },
)

t.test('WorkerHub drops a line that is JSON but no message', async (t) => {
  const path = `${shortDir(t)}/w.sock`
  const { hub, ready } = startHub(path)
  await ready
  for (const line of ['null', '7', '{}', '[]', '{"kind":7}', '"hello"']) {
    const socket = connect(path)
    socket.resume()
    socket.write(`${line}\n`)
    await closed(socket)
    t.pass(line)
  }
  await hub.stop()
})

t.test('WorkerHub names the socket it cannot open', async (t) => {
  const path = `${shortDir(t)}/no/such/directory/w.sock`
  await t.rejects(startHub(path).ready, { code: 'worker-socket', message: path })
})

/** A worker of some generation and protocol, spoken for by a test. */
async function speak(path: string, generation: number, newest: number) {
  const socket = connect(path)
  let text = ''
  socket.on('data', (chunk: Buffer) => (text += chunk.toString()))
  const say = (message: object): void => void socket.write(`${JSON.stringify(message)}\n`)
  say({ kind: 'hello', newest, oldest: newest, generation, index: 0, pid: generation })
  const kinds = (kind: string): readonly string[] =>
    text.split('\n').filter((line) => line.includes(`"kind":"${kind}"`))
  await until('it is welcome', () => kinds('welcome').length === 1)
  return { socket, say, kinds }
}

t.test('WorkerHub tells each worker of this host’s instances as it understands', async (t) => {
  const path = `${shortDir(t)}/w.sock`
  const { hub, ready } = startHub(path)
  await ready
  const { local } = snapshotOf(['a', 'b'].map((service) => ({ service, host: self })))
  hub.setSnapshot({ ...snapshot, sequence: 1, local: local.slice(0, 1) })
  const [old, young] = [await speak(path, 1, 3), await speak(path, 2, 4)]
  for (const worker of [old, young]) {
    await until('it has a view', () => worker.kinds('snapshot').length === 1)
  }
  hub.setSnapshot({ ...snapshot, sequence: 2, local })
  const changes = await Promise.all(
    [old, young].map(({ kinds }) => until('it hears', () => kinds('snapshot-changes')[0])),
  )
  const [whole, some] = changes.map((line) => JSON.parse(line).changes)
  t.match(whole, { local: [{ service: 'a' }, { service: 'b' }], localChanges: undefined })
  t.match(some, { localChanges: { changed: [{ service: 'b' }], gone: [] }, local: undefined })
  for (const { socket } of [old, young]) socket.destroy()
  await hub.stop()
})

t.test('WorkerHub says when workers have had time to come back, or that it stops', async (t) => {
  for (const [what, happens] of [
    ['time', (_: WorkerHub, turned: FakeClock) => turned.advance(3000)],
    ['stop', (hub: WorkerHub) => hub.stop()],
  ] as const) {
    const turned = new FakeClock()
    const settings = { socketPath: `${shortDir(t)}/w.sock`, worker, live, retireMs: 5000 }
    const hub = new WorkerHub({ clock: turned, logger }, settings)
    await hub.start()
    let isBack = false
    const back = hub.back.then(() => (isBack = true))
    await turned.advance(2999)
    t.notOk(isBack, what)
    await happens(hub, turned)
    await back
    await hub.stop()
  }
})

t.test(
  'WorkerHub hands over from a generation of the protocol before to the next one',
  async (t) => {
    const path = `${shortDir(t)}/w.sock`
    let ledTo = 1
    const settings = { socketPath: path, live, retireMs: 5000 }
    const hub = new WorkerHub(
      { clock, logger, leadsTo: (generation) => ledTo === generation },
      { ...settings, worker: { ...worker, workers: 1 } },
    )
    await hub.start()
    hub.setSnapshot(snapshot)
    const state = { tunnelPort: 15_008, listeners: [] }
    const phases = (): readonly string[] =>
      hub.workers.map(({ generation, phase }) => `${generation} ${phase}`)
    const old = await speak(path, 1, 1)
    old.say({ kind: 'listening', state })
    const next = await speak(path, 2, protocol.newest)
    t.same(phases(), ['1 live', '2 standby'])
    t.match(next.kinds('phase'), [/standby/])
    next.say({ kind: 'applied', sequence: 1 })
    await until('it is live', () => phases().includes('2 live'))
    next.say({ kind: 'listening', state })
    await until('it listens', () => hub.workers[1]?.listening.tunnelPort === 15_008)
    t.same(phases(), ['1 live', '2 live'], 'captured connections are still led to the old one')
    ledTo = 2
    hub.refresh()
    t.same(phases(), ['1 retiring', '2 live'])
    await until('the old one is told in its own words', () => old.kinds('drain').length === 1)
    t.same(old.kinds('phase'), [], 'and in no others')
    old.say({ kind: 'leaving', counters: { series: [] } })
    old.socket.destroy()
    await until('it is gone', () => hub.workers.length === 1)
    t.equal(hub.crashes, 0)
    next.socket.destroy()
    await hub.stop()
  },
)
