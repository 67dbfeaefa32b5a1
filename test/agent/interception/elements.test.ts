import t from 'tap'
import { nothing } from '#agent/interception/capture-state.ts'
import { changesBetween, elementsOf, isSame, lifted } from '#agent/interception/elements.ts'

const state = {
  ...nothing,
  unknownPort: 17000,
  callers: [{ kind: 'user' as const, user: 1001, port: 17001 }],
  destinations: [{ address: '10.0.0.5', port: 5432, virtual: '240.240.0.1', denied: false }],
}

t.test('changesBetween says only what differs, deletions first', async (t) => {
  const before = elementsOf(state)
  t.equal(changesBetween(before, elementsOf(state)), '')
  const after = elementsOf({
    ...state,
    callers: [{ kind: 'user', user: 1001, port: 17002 }],
    locks: [{ port: 8080, users: [0], mode: 'permissive' as const }],
  })
  t.same(changesBetween(before, after).trim().split('\n'), [
    'delete element inet hostmesh callers { 1001 }',
    'add element inet hostmesh callers { 1001 : 17002 }',
    'add element inet hostmesh lock_users { 8080 . 0 }',
    'add counter inet hostmesh plaintext_8080',
    'add element inet hostmesh plaintext { 8080 : "plaintext_8080" }',
  ])
  t.ok(isSame(before, elementsOf(state)))
  t.notOk(isSame(before, after))
})

t.test('elementsOf leads nothing anywhere while no worker takes it', async (t) => {
  const { destinations4, callers } = elementsOf({ ...state, unknownPort: null })
  t.same([destinations4.size, callers.size], [0, 0])
})

t.test('lifted keeps only what may not be reached without the mesh', async (t) => {
  const [real] = state.destinations
  const denied = { ...real, address: '10.0.0.6', port: 80, virtual: '240.240.0.2', denied: true }
  const kept = lifted(elementsOf({ ...state, destinations: [...state.destinations, denied] }))
  t.same([...kept.destinations4], [['10.0.0.6 . 80', '240.240.0.2']])
  t.equal(kept.unknown_callers.size, 1)
  t.ok(isSame(lifted(kept), kept))
  const all = lifted(elementsOf(state))
  t.same([all.destinations4.size, all.unknown_callers.size, all.callers.size], [0, 0, 0])
})

t.test(
  'of two that claim a number of a virtual IP, the first stands in, with both or with one',
  async (t) => {
    const at = { address: '240.240.0.1', port: 80 }
    const [a, b, c] = [2, 3, 4].map((n) => ({ address: `10.0.0.${n}`, port: 8080 }))
    if (a === undefined || b === undefined || c === undefined) throw new Error('none')
    const standIns = [
      { ...at, to: [a] },
      { ...at, to: [b, c] },
    ]
    const { plain4, plain4_other: other } = elementsOf({ ...state, standIns })
    t.same([...plain4], [['240.240.0.1 . 80', '10.0.0.2 . 8080']])
    t.equal(other.size, 0)
  },
)
