import t from 'tap'
import { nameServersIn, withMesh, withoutMesh } from '#agent/dns/resolv-conf.ts'

const usual = `# made by hand
search example.org
nameserver 192.0.2.1
nameserver\t2001:db8::1 ; a comment
nameserver fe80::1%eth0
;nameserver 192.0.2.9
options edns0
`

t.test('nameServersIn reads the servers in order', async (t) => {
  t.same(nameServersIn(usual), ['192.0.2.1', '2001:db8::1', 'fe80::1'])
  t.same(nameServersIn(''), [])
})

t.test('withMesh puts the mesh first and withoutMesh leaves no trace', async (t) => {
  for (const text of [usual, '', 'nameserver 192.0.2.1']) {
    const ours = withMesh(text, '127.0.0.58')
    t.match(ours, /^# hostmesh[^\n]*\nnameserver 127\.0\.0\.58\n/)
    t.same(nameServersIn(ours), nameServersIn(text), 'it is no resolver to forward to')
    t.equal(withMesh(ours, '127.0.0.58'), ours, 'once is enough')
    t.equal(withoutMesh(ours), text)
  }
  t.equal(withoutMesh(usual), usual)
})
