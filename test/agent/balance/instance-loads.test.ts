import t from 'tap'
import { InstanceLoads } from '#agent/balance/instance-loads.ts'
import { self, snapshotOf } from '#test/support/snapshots.ts'

const local = (maxConcurrent?: number) =>
  snapshotOf([
    { service: 'orders', host: self, ...(maxConcurrent === undefined ? {} : { maxConcurrent }) },
  ]).local

t.test('InstanceLoads keeps to the newest limit, its own part of it', async (t) => {
  const loads = new InstanceLoads({ shareOf: (limit) => limit / 2 })
  loads.apply(local())
  const load = loads.of('orders', '1')
  load.active = 5
  t.notOk(load.isFull)
  loads.apply(local(12))
  t.equal(loads.of('orders', '1'), load, 'what is under way stays counted')
  t.notOk(load.isFull)
  load.active = 6
  t.ok(load.isFull)
  loads.apply(local())
  t.notOk(load.isFull)
})
