/**
 * A mesh too large to be followed whole, on a real etcd: what is in use stays, the rest is found when it
 * is called for, and outages of the store change neither.
 */

import t from 'tap'
import type { DemoHost } from '#cli/demo/demo-host.ts'
import { ports } from '#cli/demo/demo-host.ts'
import { systemClock, systemRandom } from '#shared/lifecycle/clock.ts'
import { instancesPrefix } from '#shared/store/keys.ts'
import { openEtcd } from '#shared/store/etcd.ts'
import { call, type CallAnswer } from '#test/support/callers.ts'
import { TestEtcd } from '#test/support/etcd.ts'
import { streamOf } from '#test/support/event-stream.ts'
import { entryOf, instanceOf, presenceOf } from '#test/support/mesh-records.ts'
import { MeshWorld } from '#test/support/mesh-world.ts'
import { needs } from '#test/support/needs.ts'
import { testDirectory } from '#test/support/test-directory.ts'
import { underLoad } from '#test/support/under-load.ts'

// Programs start here; on a busy machine each takes seconds.
t.setTimeout(600_000)

const limit = 100
const strangers = 300

t.test('a mesh that grows past the limit, and shrinks again', async (t) => {
  if (!needs(t, 'etcd')) return
  const etcd = await TestEtcd.start(`${testDirectory(t)}/etcd`)
  t.teardown(() => etcd.kill())
  const mesh = await MeshWorld.raise(t, {
    store: 'etcd',
    storeUrl: etcd.url,
    agentConfig: { wholeMesh: limit },
  })
  const { alpha, beta } = mesh
  const store = openEtcd({ clock: systemClock, random: systemRandom }, { endpoints: [etcd.url] })
  t.teardown(() => store.close())

  const proxy = (name: string) => ({
    host: alpha.place.local,
    port: ports.forwardProxy,
    path: `http://${name}.mesh/`,
  })
  const ask = (name: string): Promise<CallAnswer> => call(proxy(name))
  /** The answer to the first call that was not told to come again: a crowded store may be late. */
  const first = async (name: string): Promise<CallAnswer> => {
    let answer = await ask(name)
    await mesh.until(`${name} was looked for`, async () => {
      if (answer.headers['x-mesh-reason'] !== 'not-discovered') return true
      answer = await ask(name)
      return false
    })
    return answer
  }
  const knows = (host: DemoHost, ...names: readonly string[]): Promise<void> =>
    mesh.until(`${host.name} knows ${names.join()} and no more`, async () => {
      const services = await host.admin.ask('services')
      return (
        services
          .map(({ name }) => name)
          .toSorted()
          .join() === names.join()
      )
    })
  const view = async (host: DemoHost) => (await host.admin.ask('status')).snapshot
  const isOf = (host: DemoHost, of: string): Promise<void> =>
    mesh.until(`${host.name} follows: ${of}`, async () => (await view(host)).of === of)
  const storeIs = (kind: string): Promise<void> =>
    mesh.until(`the store is ${kind} for alpha`, async () => {
      return (await alpha.admin.ask('status')).store.kind === kind
    })

  for (const [index, name] of ['orders', 'carts', 'mail', 'stock'].entries()) {
    mesh.serve(beta, 'http', name, 8080 + index)
    beta.dropManifest(name, { port: 8080 + index, address: beta.place.local })
    await mesh.sees(alpha, name, ['beta'])
  }
  alpha.dropManifest('web', { requires: ['mail'] })

  await t.test('what is in use before stays, and no call of it fails', async (t) => {
    await underLoad(t, {
      mesh,
      targets: [proxy('orders')],
      happens: async (more) => {
        await mesh.until('alpha knows what it uses', async () => (await view(alpha)).inUse >= 2)
        await store.put(...entryOf(presenceOf('elsewhere')))
        for (let i = 0; i < strangers; i++) {
          await store.put(...entryOf(instanceOf(`stranger-${i}`, 'elsewhere')))
        }
        await isOf(alpha, 'services-in-use')
        await isOf(beta, 'services-in-use')
        await knows(alpha, 'mail', 'orders')
        await knows(beta, 'carts', 'mail', 'orders', 'stock')
        await storeIs('up')
        await mesh.acts(alpha)
        await more('beta')
      },
    })
  })

  await t.test('a service is found by the first call of it, and followed', async (t) => {
    t.match(await first('carts'), { status: 200, host: 'beta' })
    await knows(alpha, 'carts', 'mail', 'orders')
    const why = await alpha.admin.tell('why', { service: 'carts' })
    t.match(why, { verdict: 'works', steps: [{ name: 'discovery', finding: /in use/ }] })
    beta.removeManifest('carts')
    await mesh.sees(alpha, 'carts', [])
    t.match(await ask('carts'), { status: 503, headers: { 'x-mesh-reason': 'no-instances' } })
  })

  await t.test('a name nobody has is told so, however often it is asked for', async (t) => {
    const names = Array.from({ length: 50 }, (_, i) => `nobody-${i % 5}`)
    const answers = await Promise.all(names.map(first))
    for (const { status, headers } of answers) {
      t.same([status, headers['x-mesh-reason']], [404, 'unknown-service'])
    }
  })

  await t.test('without the store what is in use is served, also after a restart', async (t) => {
    await etcd.kill()
    await storeIs('down')
    await underLoad(t, {
      mesh,
      targets: [proxy('orders'), proxy('mail')],
      happens: async (more) => {
        t.match(await ask('stock'), { status: 503, headers: { 'x-mesh-reason': 'not-discovered' } })
        const { control } = await mesh.pids(alpha)
        process.kill(control, 'SIGKILL')
        await mesh.until('another one is there', async () => {
          return (await mesh.pids(alpha)).control !== control
        })
        await mesh.ready(alpha)
        t.match(await view(alpha), { source: 'disk', of: 'services-in-use' })
        await mesh.acts(alpha)
        await more('beta')
        t.match(await ask('stock'), { status: 503, headers: { 'x-mesh-reason': 'not-discovered' } })
      },
    })
  })

  await t.test('once it is back the rest is found again', async (t) => {
    await etcd.start()
    await storeIs('up')
    t.match(await first('stock'), { status: 200, host: 'beta' })
    t.match(await ask('orders'), { status: 200, host: 'beta' })
  })

  await t.test('a mesh that is small enough is followed whole', async (t) => {
    await mesh.until('the store answers the test', async () => (await store.count('/')) > 0)
    for (let i = 0; i < strangers; i++) {
      await store.delete(entryOf(instanceOf(`stranger-${i}`, 'elsewhere'))[0])
    }
    t.ok((await store.count(instancesPrefix)) < limit)
    // It is counted every few minutes, and by each session at its beginning.
    await etcd.kill()
    await storeIs('down')
    await etcd.start()
    await isOf(alpha, 'whole-mesh')
    await storeIs('up')
    t.match(await ask('orders'), { status: 200, host: 'beta' })
  })
})

t.test('a program watches a service of a mesh that is too large to be followed', async (t) => {
  const mesh = await MeshWorld.raise(t, { agentConfig: { wholeMesh: 1 } })
  const { alpha, beta } = mesh
  const serve = (name: string, port: number, weight = 100): void =>
    beta.dropManifest(name, { port, address: beta.place.local, weight })
  const watch = (names: string) => {
    const { local: host } = alpha.place
    return streamOf(t, { host, port: ports.applications, path: `/v1/watch?${names}` })
  }
  for (const [name, port] of [
    ['orders', 8080],
    ['stock', 8081],
    ['mail', 8082],
  ] as const) {
    mesh.serve(beta, 'http', name, port)
  }
  serve('stock', 8081)
  await mesh.sees(alpha, 'stock', ['beta'])
  const before = watch('service=stock')
  await mesh.until('stock was told', () => before.heard().includes('event: ready'))

  serve('orders', 8080)
  serve('mail', 8082)
  await mesh.until('alpha follows what is in use', async () => {
    const { snapshot, store } = await alpha.admin.ask('status')
    return snapshot.of === 'services-in-use' && store.kind === 'up'
  })
  await mesh.sees(alpha, 'orders', [])
  const after = watch('service=orders&service=nobody')
  await mesh.until('orders was looked for', () => after.heard().includes('event: ready'))
  t.match(after.heard(), /event: service\ndata: \{"name":"orders"[^]*\n\nevent: ready/)

  serve('stock', 8081, 7)
  await mesh.until('the change was told', () => before.heard().includes('"weight":7'))
  t.notMatch(before.heard(), 'event: gone', 'it was there all the time')
  beta.removeManifest('orders')
  await mesh.until('the end was told', () =>
    /"name":"orders".*"instances":\[\]|event: gone/.test(after.heard()),
  )
})
