/**
 * The events of upgrades: the agent of a host under load is restarted and upgraded, again and again,
 * between two versions whose control protocols differ. Nobody's request fails, and connections that
 * are held across two upgrades stay whole.
 */

import { join } from 'node:path'
import type { DemoHost } from '#cli/demo/demo-host.ts'
import type { SoakSettings } from '#test/soak/soak.ts'
import { SoakMesh } from '#test/soak/soak.ts'
import { Streams } from '#test/soak/streams.ts'
import { root } from '#test/support/sources.ts'
import { thisMachine } from '#test/support/this-machine.ts'
import { TwoVersions } from '#test/support/two-versions.ts'

const service = join(root, 'test/support/service-program.ts')
const echoPort = 8090
const streamPort = 9003
const { node } = thisMachine

/** Runs all of them. */
export async function upgrades(settings: SoakSettings): Promise<void> {
  const full = settings.size === 'full'
  const versions = new TwoVersions()
  try {
    const mesh = await SoakMesh.raise(settings, { leafTtlSeconds: 3600, root: versions.root })
    try {
      const [host, other] = mesh.world.hosts
      await serveStreams(mesh, host, other)
      settings.say(`the agent of ${host.name} is restarted`)
      await restart(mesh, host, full ? 50 : 5)
      settings.say(`the agent of ${host.name} is upgraded`)
      await upgrade(mesh, versions, { times: full ? 50 : 5, streams: 4 })
    } finally {
      await mesh.stop()
    }
  } finally {
    versions.remove()
  }
}

/** A service for raw connections on each of two hosts, called by the other. */
async function serveStreams(
  mesh: SoakMesh,
  ...hosts: readonly [DemoHost, DemoHost]
): Promise<void> {
  for (const [host, far] of [hosts, hosts.toReversed()] as [DemoHost, DemoHost][]) {
    const { local } = host.place
    host.start('echo', [node, service, 'echo', local, String(echoPort), host.name])
    host.dropManifest(`echo-${host.name}`, { port: echoPort, address: local, protocol: 'tcp' })
    host.dropManifest('streams', { upstreams: { [`echo-${far.name}`]: streamPort } })
  }
  for (const [host, far] of [hosts, hosts.toReversed()] as [DemoHost, DemoHost][]) {
    await mesh.until(`${host.name} takes streams`, async () => {
      const { workers } = await host.admin.ask('status')
      const open = workers[0]?.listeners.find(({ port }) => port === streamPort)?.problem === ''
      const services = await host.admin.ask('services')
      return open && services.some(({ name }) => name === `echo-${far.name}`)
    })
  }
}

/** Restarts the control process and waits until another one is ready. */
export async function restartControl(mesh: SoakMesh, host: DemoHost): Promise<void> {
  const { pid } = await host.admin.ask('status')
  process.kill(pid, 'SIGTERM')
  await mesh.until(`another control process of ${host.name} is ready`, async () => {
    const status = await host.admin.ask('status')
    return status.pid !== pid && status.ready && status.store.kind === 'up'
  })
}

async function restart(mesh: SoakMesh, host: DemoHost, times: number): Promise<void> {
  const end = mesh.load.stretch()
  const before = await workersOf(host)
  for (let time = 0; time < times; time++) {
    await restartControl(mesh, host)
    await mesh.more((name) => name === host.name)
  }
  mesh.noneFailed('upgrades-restart', `${times} restarts of an agent`, end())
  const after = await workersOf(host)
  const replaced = before.filter((pid) => !after.includes(pid)).length
  mesh.atMost('upgrades-restart', 'workers that ended with a control process', replaced, 0)
}

async function workersOf(host: DemoHost): Promise<readonly number[]> {
  return (await host.admin.ask('status')).workers.map(({ pid }) => pid)
}

async function upgrade(
  mesh: SoakMesh,
  versions: TwoVersions,
  { times, streams }: { readonly times: number; readonly streams: number },
): Promise<void> {
  const [host, other] = mesh.world.hosts
  const end = mesh.load.stretch()
  const held: (readonly Streams[])[] = []
  let [lost, opened, protocols] = [0, 0, 0]
  const open = async (): Promise<void> => {
    const batches = [host, other].map((from) => {
      return new Streams({ host: from, node }, { port: streamPort, count: streams / 2 })
    })
    for (const batch of batches) await mesh.until('streams are answered', () => batch.isOpen)
    held.push(batches)
    opened += streams
  }
  /** Ends those that were opened first, once each has been answered again. */
  const close = async (): Promise<void> => {
    const batches = held.shift() ?? []
    for (const batch of batches) {
      const enough = batch.echoed + batch.count
      await mesh
        .until('streams are answered again', () => batch.echoed >= enough || batch.lost > 0)
        .catch(() => {})
      lost += batch.lost
      await batch.close()
    }
  }
  const began = performance.now()
  for (let time = 0; time < times; time++) {
    const sinceS = ((performance.now() - began) / 1000).toFixed(1)
    if (times > 5) mesh.say(`  upgrade ${time + 1} of ${times}, ${sinceS} s in`)
    await open()
    protocols = Math.max(protocols, await upgradeOnce(mesh, versions, host))
    if (held.length === 2) {
      await close()
      await mesh.until('the oldest generation has ended', async () => {
        return (await host.admin.ask('generations')).length <= 2
      })
    }
    await mesh.more((name) => name === host.name)
  }
  while (held.length > 0) await close()
  mesh.noneFailed('upgrades', `${times} upgrades of an agent`, end())
  mesh.atMost('upgrades', `of ${opened} streams cut, each held across two upgrades`, lost, 0)
  mesh.say(`  a control process spoke ${protocols} protocols at once`)
  mesh.atMost('upgrades', 'protocols too few spoken at once', 2 - protocols, 0)
}

/** One upgrade: workers first, then the control process. Answers how many protocols were spoken. */
async function upgradeOnce(mesh: SoakMesh, versions: TwoVersions, host: DemoHost): Promise<number> {
  const before = Math.max(
    ...(await host.admin.ask('generations')).map(({ generation }) => generation),
  )
  versions.swap()
  host.agent?.signal('SIGUSR2')
  let protocols = 0
  const isOver = async (): Promise<boolean> => {
    const generations = await host.admin.ask('generations')
    protocols = Math.max(protocols, new Set(generations.flatMap((one) => one.protocols)).size)
    return generations.every(({ generation, phase, versions: [version] }) => {
      if (generation <= before) return phase === 'retiring'
      return phase === 'live' && version === versions.version
    })
  }
  await mesh.until('the next generation has taken over', async () => {
    return (await newest(host)) > before && (await isOver())
  })
  await restartControl(mesh, host)
  await mesh.until('all workers are back', isOver)
  const { version } = await host.admin.ask('status')
  if (version !== versions.version) throw new Error(`the control process is of ${version}`)
  return protocols
}

async function newest(host: DemoHost): Promise<number> {
  return Math.max(...(await host.admin.ask('generations')).map(({ generation }) => generation))
}
