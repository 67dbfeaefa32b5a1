/** Which leases of sessions that have ended are gone on with or given back, and for how long that is tried. */

import t from 'tap'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { LeaseId } from '#shared/store/key-value.ts'
import { LeftLeases } from '#shared/store/left-leases.ts'

const ttlMs = 15_000
const late = new MeshError('no answer', { code: 'store-timeout', retry: true })
const gone = new MeshError('no such lease', { code: 'store-lease-not-found' })

/** Leases that are left, and the store that takes them back. */
function played() {
  const now = { elapsedMs: 0 }
  const left = new LeftLeases({ clock: { elapsed: () => now.elapsedMs } })
  const asked: string[] = []
  let wereThere = false
  const giveBack = async (failure: MeshError | null = null): Promise<readonly string[]> => {
    asked.length = 0
    const revokeLease = async (lease: LeaseId): Promise<void> => {
      asked.push(lease)
      if (failure !== null) throw failure
    }
    const { signal } = new AbortController()
    wereThere = await left.giveBack({ revokeLease }, { signal, timeoutMs: 1000 })
    return [...asked]
  }
  return {
    now,
    left,
    giveBack,
    wereThere: () => wereThere,
    add: (lease: string) => left.add(lease as LeaseId, { ttlMs }),
    goOn: async (failure: MeshError | null = null): Promise<LeaseId | null> =>
      left.goOn(
        {
          async keepAlive() {
            if (failure !== null) throw failure
            return { ttlMs }
          },
        },
        {},
      ),
  }
}

t.test('LeftLeases gives each back until the store has taken it, or has none', async (t) => {
  const { add, giveBack, wereThere } = played()
  add('1')
  add('2')
  t.strictSame(await giveBack(late), ['1', '2'])
  t.notOk(wereThere())
  t.strictSame(await giveBack(), ['1', '2'])
  t.ok(wereThere(), 'keys may have gone with them')
  t.strictSame(await giveBack(), [])
  t.notOk(wereThere())
  add('3')
  t.strictSame(await giveBack(gone), ['3'])
  t.notOk(wereThere())
  t.strictSame(await giveBack(), [])
})

t.test('LeftLeases forgets what has lapsed long ago, and the oldest of too many', async (t) => {
  const { add, giveBack, now } = played()
  add('1')
  now.elapsedMs = 2 * ttlMs + 1
  t.strictSame(await giveBack(), [])
  for (let i = 0; i < 40; i++) add(`n${i}`)
  const given = await giveBack()
  t.equal(given.length, 32)
  t.equal(given[0], 'n8')
})

t.test('LeftLeases goes on with the newest, unless that was given up', async (t) => {
  const { add, goOn, giveBack, left, now } = played()
  t.equal(await goOn(), null, 'there is none')
  add('1')
  add('2')
  left.giveUp('2' as LeaseId)
  t.equal(await goOn(), null)
  add('3')
  await t.rejects(goOn(late), { code: 'store-timeout' })
  now.elapsedMs = ttlMs
  t.equal(await goOn(), '3')
  now.elapsedMs = 2 * ttlMs
  t.strictSame(await giveBack(late), ['1', '2', '3'], 'until it is taken')
  left.take('3' as LeaseId)
  t.strictSame(await giveBack(), ['1', '2'])
  add('3')
  t.equal(await goOn(gone), null)
  t.strictSame(await giveBack(), [])
  add('4')
  const denied = new MeshError('not yours', { code: 'store-denied' })
  t.equal(await goOn(denied), null)
  t.equal(await goOn(), null, 'it is not tried again')
  t.strictSame(await giveBack(), ['4'])
})
