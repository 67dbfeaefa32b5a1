import t from 'tap'
import { serviceOfAuthority } from '#shared/route/mesh-name.ts'

t.test('serviceOfAuthority reads a service with and without a port, in any case', (t) => {
  for (const text of ['orders.mesh', 'orders.mesh:80', 'ORDERS.Mesh:8080']) {
    t.same(serviceOfAuthority(text), { ok: true, value: 'orders' })
  }
  t.end()
})

t.test('serviceOfAuthority refuses every other spelling', (t) => {
  const spellings = [
    '',
    'orders',
    'orders.mesh.',
    'orders.mesh:',
    'orders.mesh:8 0',
    'orders.mesh:80:80',
    'orders.mesh:http',
    'a.orders.mesh',
    '.mesh',
    'user@orders.mesh',
    'orders.mesh@evil.example',
    'orders.meshy',
    '-orders.mesh',
    'or_ders.mesh',
    'orders.mesh/..',
    '[::1]',
    'orders%2emesh',
  ]
  for (const text of spellings) t.notOk(serviceOfAuthority(text).ok, text)
  t.end()
})
