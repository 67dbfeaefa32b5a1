import t from 'tap'
import {
  addressAt,
  virtualRange6Of,
  VirtualAddresses,
} from '#agent/interception/virtual-addresses.ts'

const day = 86_400_000

t.test('an address stays with its service, across restarts too', async (t) => {
  const addresses = new VirtualAddresses()
  const orders = addresses.indexOf('orders', 0)
  t.equal(addresses.indexOf('orders', 5), orders)
  t.equal(new VirtualAddresses().indexOf('orders', 9), orders, 'and where the file was lost')
  t.equal(new VirtualAddresses(addresses.grants).indexOf('orders', 9), orders)
})

t.test('an address is not given to another service within 30 days', async (t) => {
  const index = new VirtualAddresses().indexOf('orders', 0) ?? 0
  const kept = [{ service: 'web', index, seenMs: 0 }]
  const early = new VirtualAddresses(kept)
  t.equal(early.indexOf('orders', 29 * day), (index % 65_534) + 1, 'the next one is taken')
  t.not(early.indexOf('web', 29 * day), early.indexOf('orders', 29 * day))
  t.equal(new VirtualAddresses(kept).indexOf('orders', 31 * day), index)
})

t.test('65,534 services have an address each, and no more', async (t) => {
  const addresses = new VirtualAddresses()
  const given = new Set<number | null>()
  for (let n = 0; n < 2000; n++) given.add(addresses.indexOf(`s${n}`, 0))
  t.equal(given.size, 2000)
  const full = new VirtualAddresses(
    Array.from({ length: 65_534 }, (_, n) => ({ service: `s${n}`, index: n + 1, seenMs: 0 })),
  )
  t.equal(full.indexOf('one-more', day), null)
})

t.test('addresses lie in their ranges', async (t) => {
  const range = virtualRange6Of('mesh.internal')
  t.match(range, /^fd[0-9a-f]{2}:[0-9a-f]{1,4}:[0-9a-f]{1,4}::\/48$/)
  t.same(addressAt(258, range), { v4: '240.240.1.2', v6: range.replace('/48', '102') })
  t.equal(addressAt(1, null).v6, null)
})
