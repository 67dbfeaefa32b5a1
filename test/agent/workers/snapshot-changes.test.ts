import { isDeepStrictEqual } from 'node:util'
import * as fc from 'fast-check'
import t from 'tap'
import { changesBetween, withChanges, withWholeLocal } from '#agent/workers/snapshot-changes.ts'
import type { LocalInstance, Snapshot } from '#shared/model/snapshot.ts'
import { externalOf, self, snapshotOf } from '#test/support/snapshots.ts'

const [serviceNames, hostNames] = [
  ['orders', 'users', 'constructor', 'tostring'],
  ['a', 'b', 'c', 'constructor'],
]

/** A few instances anywhere, and what a host has of its own. */
const view = fc.array(
  fc.record({ service: fc.constantFrom(...serviceNames), host: fc.constantFrom(...hostNames) }),
  { maxLength: 12 },
)

function snapshotAt(sequence: number, instances: Parameters<typeof snapshotOf>[0]): Snapshot {
  return { ...snapshotOf(instances), sequence, revision: sequence * 3 }
}

/** As a worker has it: over the wire. */
function wired<T>(value: T): T {
  return JSON.parse(JSON.stringify(value)) as T
}

t.test('changes lead from any snapshot to any other', (t) => {
  fc.assert(
    fc.property(fc.array(view, { minLength: 2, maxLength: 6 }), (views) => {
      const snapshots = views.map((instances, index) => snapshotAt(index + 1, instances))
      let theirs = wired(snapshots[0] as Snapshot)
      snapshots.slice(1).forEach((after, index) => {
        const changes = wired(changesBetween(snapshots[index] as Snapshot, after))
        theirs = withChanges(theirs, changes) as Snapshot
        if (!isDeepStrictEqual(theirs, wired(after))) throw new Error(JSON.stringify(theirs))
      })
    }),
    { numRuns: 200, seed: 20_260_101 },
  )
  t.end()
})

t.test('instances of the host are told one by one, and all of them to older workers', (t) => {
  const local = (service: string, port: number): LocalInstance => {
    const [one] = snapshotOf([{ service, host: self, port }]).local
    if (one === undefined) throw new TypeError(service)
    return one
  }
  const rows = fc.array(
    fc.record({ service: fc.constantFrom(...serviceNames), port: fc.integer({ min: 1, max: 3 }) }),
    { maxLength: 4 },
  )
  const sorted = (all: Snapshot['local']) =>
    all.toSorted((a, b) => (a.service < b.service ? -1 : 1))
  fc.assert(
    fc.property(fc.array(rows, { minLength: 2, maxLength: 6 }), (steps) => {
      let known = new Map<string, LocalInstance>()
      const snapshots = steps.map((step, index) => {
        const now = new Map(step.map(({ service, port }) => [service, local(service, port)]))
        // What says the same is the same object.
        for (const [service, before] of known) {
          if (now.get(service)?.port === before.port) now.set(service, before)
        }
        known = now
        return { ...snapshotAt(index + 1, []), local: [...now.values()] }
      })
      for (const make of [changesBetween, withWholeLocal]) {
        let theirs = wired(snapshots[0] as Snapshot)
        snapshots.slice(1).forEach((after, index) => {
          const changes = wired(make(snapshots[index] as Snapshot, after))
          theirs = withChanges(theirs, changes) as Snapshot
          const [got, meant] = [sorted(theirs.local), sorted(wired(after).local)]
          if (!isDeepStrictEqual(got, meant)) throw new Error(JSON.stringify({ got, meant }))
        })
      }
    }),
    { numRuns: 200, seed: 20_260_102 },
  )
  const [a, b, c] = [local('orders', 1), local('users', 1), local('users', 2)]
  const before = { ...snapshotAt(1, []), local: [a, b] }
  const changes = changesBetween(before, { ...before, sequence: 2, local: [a, c] })
  t.strictSame(changes.localChanges, { changed: [c], gone: [] })
  t.strictSame(changes.local, undefined)
  t.equal(withChanges(before, changes)?.local[0], a, 'and what stays is the same object')
  t.end()
})

t.test('what did not change is not said, and stays the same object', (t) => {
  const before = snapshotAt(1, [
    { service: 'orders', host: 'a' },
    { service: 'users', host: 'a' },
  ])
  const { orders } = snapshotAt(2, [{ service: 'orders', host: 'b' }]).services
  const after: Snapshot = {
    ...before,
    sequence: 2,
    services: { ...before.services, ...(orders === undefined ? {} : { orders }) },
  }
  const changes = changesBetween(before, after)
  t.strictSame(Object.keys(changes).sort(), ['base', 'revision', 'sequence', 'services'])
  t.strictSame(
    changes.services?.changed.map(({ name }) => name),
    ['orders'],
  )
  const theirs = withChanges(before, changes)
  t.equal(theirs?.services['users'], before.services['users'])
  t.equal(theirs?.hosts, before.hosts)
  t.end()
})

t.test('changes of another snapshot are not taken', (t) => {
  const [first, second, third] = [1, 2, 3].map((sequence) => snapshotAt(sequence, []))
  if (first === undefined || second === undefined || third === undefined) throw new TypeError()
  t.equal(withChanges(first, changesBetween(second, third)), null)
  t.end()
})

t.test('external services are told when they change, and when they are gone', (t) => {
  const [first, second, third] = [1, 2, 3].map((sequence) => snapshotAt(sequence, []))
  if (first === undefined || second === undefined || third === undefined) throw new TypeError()
  const external = [externalOf('api', ['203.0.113.5'])]
  const there = { ...second, external }
  const told = withChanges(first, wired(changesBetween(first, there)))
  t.strictSame(told?.external, external)
  const same = changesBetween(there, { ...third, external })
  t.notOk('external' in same)
  t.strictSame(withChanges(there, wired(changesBetween(there, third)))?.external, [])
  t.end()
})
