import { connect } from 'node:net'
import { once } from 'node:events'
import { stat } from 'node:fs/promises'
import t from 'tap'
import { shortDir } from '#test/support/short-dir.ts'
import { systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import { createLogger } from '#shared/logging/logger.ts'
import { agentMetrics } from '#shared/metrics/names.ts'
import { must, parseHostName, parseTrustDomain } from '#shared/model/names.ts'
import type { Snapshot } from '#shared/model/snapshot.ts'
import { ControlLink } from '#agent/workers/control-link.ts'
import type { ToWorker, WorkerSettings } from '#agent/workers/messages.ts'
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
}
const trustDomain = must(parseTrustDomain('mesh.internal'))
const snapshot: Snapshot = {
  revision: 7,
  sequence: 1,
  trustDomain,
  host: must(parseHostName('h1')),
  services: {},
  hosts: {},
  local: [],
  listeners: [],
}

function startHub(path: string): { hub: WorkerHub; ready: Promise<void> } {
  const hub = new WorkerHub({ clock, logger }, { socketPath: path, worker, collectMs: 200 })
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
    },
    { socketPath: path, generation: 1, index: 0, pid: 42 },
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
  t.equal((await stat(path)).mode & 0o777, 0o600, 'only this user may open the socket')
  hub.setTrust('old', trustDomain)
  hub.setTrust('bundle', trustDomain)
  hub.setCredentials([])
  hub.setSnapshot(snapshot)
  const { link, heard, hears } = startLink(path)
  await hears('snapshot')
  t.same(heard, [
    { kind: 'welcome', protocol: 1, settings: worker },
    { kind: 'trust', bundlePem: 'bundle', trustDomain },
    { kind: 'credentials', credentials: [] },
    { kind: 'snapshot', snapshot },
  ])
  t.match(hub.workers, [{ generation: 1, index: 0, pid: 42, protocol: 1 }])
  link.stop()
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
  link.stop()
  await second.hub.stop()
})

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
  t.same((await collected).series, series)
  link.stop()
  silent.link.stop()
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
  await once(socket, 'close')
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
    await once(socket, 'close')
    t.equal(hub.workers.length, 1)
    link.stop()
    await hub.stop()
  },
)
