import t from 'tap'
import { nearName } from '#agent/why/near-name.ts'
import { readQuestion } from '#agent/why/question.ts'

t.test('readQuestion takes a name with or without .mesh', async (t) => {
  for (const service of ['orders', 'orders.mesh', 'orders.mesh.'])
    t.match(readQuestion({ service }), {
      value: { target: { service: 'orders', portName: null }, caller: null, request: null },
    })
})

t.test('readQuestion takes a port of a service', async (t) => {
  const target = { service: 'orders', portName: 'admin' }
  t.match(readQuestion({ service: 'admin.orders.mesh' }), { value: { target } })
})

t.test('readQuestion refuses what makes no sense, and says why', async (t) => {
  const asked = (request: unknown) => readQuestion({ service: 'orders', request })
  t.match(readQuestion(null), { ok: false, problem: /expected/ })
  t.match(readQuestion({ service: 7 }), { ok: false })
  t.match(readQuestion({ service: 'No Such' }), { ok: false })
  t.match(readQuestion({ service: 'a', caller: 7 }), { ok: false })
  t.match(readQuestion({ service: 'a', caller: '..' }), { ok: false })
  t.match(asked({ method: 'POST', path: '/' }), { ok: false, problem: /change nothing/ })
  t.match(asked({ method: 'GET', path: 'x' }), { ok: false, problem: /begins with/ })
  t.match(asked({ method: 'GET', path: '/ HTTP/1.1\r\nx: y' }), { ok: false })
  t.match(asked(null), { ok: false })
})

t.test('nearName forgives two letters, and fewer in short names', async (t) => {
  const known = ['orders', 'web', 'billing-api']
  t.equal(nearName('odrers', known), 'orders')
  t.equal(nearName('order', known), 'orders')
  t.equal(nearName('billing-app', known), 'billing-api')
  t.equal(nearName('xxx', known), null)
  t.equal(nearName('db', known), null)
})
