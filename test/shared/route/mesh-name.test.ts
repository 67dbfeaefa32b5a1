import t from 'tap'
import { portOfAuthority, targetOfAuthority } from '#shared/route/mesh-name.ts'

t.test('targetOfAuthority reads a target with and without a port, in any case', (t) => {
  for (const text of ['orders.mesh', 'orders.mesh:80', 'ORDERS.Mesh:8080']) {
    t.same(targetOfAuthority(text), { ok: true, value: 'orders' })
  }
  t.same(targetOfAuthority('Admin.orders.mesh:9090'), { ok: true, value: 'admin.orders' })
  t.same(['orders.mesh', 'orders.mesh:80'].map(portOfAuthority), [null, 80])
  t.end()
})

t.test('targetOfAuthority refuses every other spelling', (t) => {
  const spellings = [
    '',
    'orders',
    'orders.mesh.',
    'orders.mesh:',
    'orders.mesh:8 0',
    'orders.mesh:80:80',
    'orders.mesh:http',
    'a.b.orders.mesh',
    '1.orders.mesh',
    '.orders.mesh',
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
  for (const text of spellings) t.notOk(targetOfAuthority(text).ok, text)
  t.end()
})
