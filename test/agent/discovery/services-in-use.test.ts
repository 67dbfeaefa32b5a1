/** Holds the services in use to their bounds. */

import t from 'tap'
import { ServicesInUse } from '#agent/discovery/services-in-use.ts'
import { must, parseServiceName, type ServiceName } from '#shared/model/names.ts'

const service = (name: string): ServiceName => must(parseServiceName(name))
const [a, b, c] = [service('a'), service('b'), service('c')]

t.test('what manifests name is in use for as long as they do', async (t) => {
  const inUse = new ServicesInUse()
  inUse.pin(new Set([a, b]))
  inUse.use(c, 0)
  t.same(inUse.all, new Set([a, b, c]))
  inUse.pin(new Set([a]))
  t.same(inUse.all, new Set([a, c]))
  t.notOk(inUse.has(b))
})

t.test('what was called is in use for a day after the last time', async (t) => {
  const inUse = new ServicesInUse({ keepMs: 100 })
  inUse.use(a, 0)
  inUse.use(b, 10)
  inUse.use(a, 50)
  inUse.expire(109)
  t.same(inUse.all, new Set([a, b]))
  inUse.expire(110)
  t.same(inUse.all, new Set([a]))
  inUse.expire(150)
  t.same(inUse.all, new Set())
})

t.test(
  'there is room for so many, and what was used lately gives its place to nobody',
  async (t) => {
    const inUse = new ServicesInUse({ most: 2, spareMs: 100 })
    inUse.pin(new Set([c]))
    t.ok(inUse.use(a, 0))
    t.ok(inUse.use(b, 50))
    t.notOk(inUse.use(service('d'), 99))
    t.ok(inUse.use(service('d'), 100), 'a was not used for long')
    t.same(inUse.all, new Set([c, b, service('d')]))
    t.ok(inUse.use(b, 101), 'what is in use has its place')
  },
)

t.test('what the disk had is taken back, and what is newer stays', async (t) => {
  const inUse = new ServicesInUse({ most: 2 })
  inUse.use(a, 50)
  inUse.restore([
    [b, 30],
    [a, 20],
    [c, 10],
  ])
  t.same(
    [...inUse.used],
    [
      [b, 30],
      [a, 50],
    ],
  )
})
