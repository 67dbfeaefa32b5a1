import t from 'tap'
import { IndexBook } from '#agent/interception/index-book.ts'
import {
  virtualAddressAt,
  virtualAddressBook,
  virtualRange6Of,
} from '#agent/interception/virtual-addresses.ts'

const day = 86_400_000
const book = (grants: ConstructorParameters<typeof IndexBook>[1] = []) =>
  new IndexBook(virtualAddressBook, grants)

t.test('a number stays with its name, across restarts too', async (t) => {
  const first = book()
  const orders = first.indexOf('orders', 0)
  t.equal(first.indexOf('orders', 5), orders)
  t.equal(book().indexOf('orders', 9), orders, 'and where the file was lost')
  t.equal(book(first.grants).indexOf('orders', 9), orders)
})

t.test('an address is not given to another service within 30 days', async (t) => {
  const index = book().indexOf('orders', 0) ?? 0
  const kept = [{ name: 'web', index, seenMs: 0 }]
  t.equal(book(kept).indexOf('orders', 29 * day), (index % 65_534) + 1, 'the next one is taken')
  t.equal(book(kept).indexOf('web', 29 * day), index)
  t.equal(book(kept).indexOf('orders', 31 * day), index)
})

t.test('every name has a number of its own while there are any', async (t) => {
  const many = book()
  const given = new Set(Array.from({ length: 2000 }, (_, n) => many.indexOf(`s${n}`, 0)))
  t.equal(given.size, 2000)
  const full = new IndexBook(
    { count: 10, quarantineMs: day },
    Array.from({ length: 10 }, (_, n) => ({ name: `s${n}`, index: n + 1, seenMs: 0 })),
  )
  t.equal(full.indexOf('one-more', day / 2), null)
})

t.test('addresses lie in their ranges', async (t) => {
  const range = virtualRange6Of('mesh.internal')
  t.match(range, /^fd[0-9a-f]{2}:[0-9a-f]{1,4}:[0-9a-f]{1,4}::\/48$/)
  t.same(virtualAddressAt(258, range), { v4: '240.240.1.2', v6: range.replace('/48', '102') })
  t.equal(virtualAddressAt(1, null).v6, null)
})
