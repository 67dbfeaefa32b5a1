import { rmSync } from 'node:fs'
import t, { type Test } from 'tap'
import { DiskCache } from '#agent/discovery/disk-cache.ts'
import { Discovery } from '#agent/discovery/discovery.ts'
import { Registrar } from '#agent/registration/registrar.ts'
import { systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import { must, parseHostName, parsePort, parseTrustDomain } from '#shared/model/names.ts'
import type { KeyValue } from '#shared/store/key-value.ts'
import { meshPrefix } from '#shared/store/keys.ts'
import { StoreLink } from '#shared/store/link.ts'
import { openStore } from '#test/support/embedded-store.ts'
import { logLines } from '#test/support/log-lines.ts'
import { manifestOf } from '#test/support/manifests.ts'
import { testDirectory } from '#test/support/test-directory.ts'
import { until } from '#test/support/until.ts'

const trustDomain = must(parseTrustDomain('mesh.internal'))
const { logger } = logLines()
const parts = { clock: systemClock, random: systemRandom, logger }

function linkTo(t: Test, connect: () => Promise<KeyValue>): StoreLink {
  const link = new StoreLink(
    { ...parts, connect },
    { prefix: meshPrefix, leaseTtlMs: 1000, backoff: { firstMs: 20, lastMs: 50 } },
  )
  t.teardown(() => link.stop({ withdraw: false }))
  link.start()
  return link
}

function registrarOn(link: StoreLink, name: string): Registrar {
  const registrar = new Registrar(
    {
      ...parts,
      publish: (desired, farewells) => link.publish(desired, farewells),
      fitnessOf: () => ({ healthy: true, certified: true }),
    },
    { host: must(parseHostName(name)), address: '10.0.0.1', zone: '', version: '0.1.0' },
  )
  registrar.setTunnelPort(must(parsePort(15008)))
  return registrar
}

async function discoveryOn(t: Test, link: StoreLink, stateDirectory: string): Promise<Discovery> {
  const settings = { host: must(parseHostName('b')), trustDomain }
  const cache = new DiskCache({ ...settings, stateDirectory })
  const discovery = new Discovery(
    {
      ...parts,
      store: link,
      cache,
      ask(_view, _service, done) {
        const timer = systemClock.after(1, () => done('silent'))
        return () => timer.stop()
      },
    },
    { ...settings, saveMs: 10 },
  )
  t.teardown(() => discovery.stop())
  await discovery.start()
  return discovery
}

const hostsOf = (discovery: Discovery): string =>
  (discovery.snapshot.services['orders']?.instances ?? []).map(({ host }) => host).join(' ')

t.test(
  'what one host registers another discovers, and keeps while the store is away',
  async (t) => {
    const root = testDirectory(t, { state: {} })
    let store = openStore(`${root}/store.db`)
    let isDown = false
    const connect = async (): Promise<KeyValue> => {
      if (isDown) throw new Error('the store is down')
      return store.keyValue
    }
    const far = linkTo(t, connect)
    const registrar = registrarOn(far, 'a')
    registrar.setManifests([manifestOf({ port: 8080 })])
    const near = linkTo(t, connect)
    const discovery = await discoveryOn(t, near, `${root}/state`)

    await until('b sees the instance', () => hostsOf(discovery) === 'a')
    registrar.setManifests([])
    await until('b sees it leave', () => hostsOf(discovery) === '')
    registrar.setManifests([manifestOf({ port: 8080 })])
    await until('b sees it again', () => hostsOf(discovery) === 'a')

    isDown = true
    await store.stop()
    near.renew('the store went down')
    far.renew('the store went down')
    await until('both are away', () => near.state.kind === 'away' && far.state.kind === 'away')
    t.equal(hostsOf(discovery), 'a')
    t.equal(discovery.source, 'store')

    await discovery.stop()
    const rebooted = await discoveryOn(t, linkTo(t, connect), `${root}/state`)
    t.equal(hostsOf(rebooted), 'a', 'the disk stands in')
    t.equal(rebooted.source, 'disk')

    for (const suffix of ['', '-wal', '-shm']) rmSync(`${root}/store.db${suffix}`, { force: true })
    store = openStore(`${root}/store.db`)
    t.teardown(() => store.stop())
    isDown = false
    await until(
      'the host is back in a store that had lost everything',
      () => rebooted.source === 'store',
    )
    await until('b sees the instance', () => hostsOf(rebooted) === 'a')

    await far.stop({ withdraw: false })
    await until('a host that fell silent is dropped', () => hostsOf(rebooted) === '')
  },
)
