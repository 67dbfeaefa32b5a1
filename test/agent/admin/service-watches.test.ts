import t from 'tap'
import type { LookUp } from '#agent/admin/application-api.ts'
import { ServiceWatches } from '#agent/admin/service-watches.ts'
import type { ServiceReport } from '#shared/model/admin-services.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { until } from '#test/support/until.ts'

const reportOf = (name: string): ServiceReport => ({
  name,
  protocol: 'http',
  addresses: [],
  ports: [],
  instances: [{ host: 'beta', id: '1', port: 8080, weight: 100, local: false }],
})

/** A host that follows only some of the services there are. */
function host(followed: readonly string[], there: readonly string[]) {
  const clock = new FakeClock()
  const world = {
    followed: new Set(followed),
    there: new Set(there),
    answers: 'as it is' as 'as it is' | 'away' | 'overloaded',
    looked: [] as string[],
    used: [] as string[],
  }
  const lookUp: LookUp = async (name) => {
    world.looked.push(name)
    if (world.answers !== 'as it is') return world.answers
    if (!world.there.has(name)) return 'unknown'
    world.followed.add(name)
    return null
  }
  const watches = new ServiceWatches({
    clock,
    services: () => [...world.followed].map(reportOf),
    lookUp,
    use: (names) => void world.used.push(...names),
  })
  const watch = (...names: readonly string[]) => {
    const answer = watches.answer({ kind: 'nobody' }, names)
    if (!('begin' in answer)) throw new Error('it was refused')
    let heard = ''
    const end = answer.begin({ write: (text) => void (heard += text), end: () => {} })
    const told = () =>
      [...heard.matchAll(/^event: (\w+)\ndata: (?:\{"name":"([\w-]+)")?/gm)].map(
        ([, event, name]) => (name === undefined ? event : `${event} ${name}`),
      )
    return { told, end }
  }
  const change = async (): Promise<void> => {
    watches.refresh()
    await clock.advance(20)
  }
  return { clock, world, watch, change }
}

const ready = (told: () => readonly unknown[]) =>
  until('all there was has been told', () => told().includes('ready'))

t.test('what a stream names is looked for before it is ready, and is in use', async (t) => {
  const { world, watch, clock } = host(['orders'], ['orders', 'stock'])
  const { told, end } = watch('orders', 'stock', 'none')
  await ready(told)
  t.strictSame(told(), ['service orders', 'service stock', 'ready'])
  t.strictSame(world.looked, ['stock', 'none'])
  t.strictSame(world.used, ['orders', 'stock', 'none'])
  world.there.add('none')
  await clock.advance(15_000)
  t.strictSame(told().slice(3), ['service none'], 'it is looked for with every breath')
  t.strictSame(world.used.length, 6)
  end()
  t.equal(clock.pending, 0)
})

t.test('what is not followed any more is not gone, and is followed again', async (t) => {
  const { world, watch, change, clock } = host(['orders'], ['orders'])
  const { told } = watch('orders')
  const all = watch()
  await ready(told)
  world.followed.delete('orders')
  await change()
  t.strictSame(told(), ['service orders', 'ready'])
  t.strictSame(world.looked, ['orders'])
  t.strictSame(all.told().at(-1), 'gone orders', 'of all those in use are told')
  world.followed.delete('orders')
  world.answers = 'away'
  await change()
  t.strictSame(told().length, 2, 'nobody knows yet')
  world.answers = 'as it is'
  world.there.delete('orders')
  await clock.advance(15_000)
  t.strictSame(told(), ['service orders', 'ready', 'gone orders'])
})

t.test('a store that cannot be asked is not asked for every name', async (t) => {
  const { world, watch } = host([], [])
  world.answers = 'away'
  const { told } = watch(...Array.from({ length: 100 }, (_, index) => `s-${index}`))
  await ready(told)
  t.equal(world.looked.length, 8)
})
