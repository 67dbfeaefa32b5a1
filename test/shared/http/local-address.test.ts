import { networkInterfaces } from 'node:os'
import t from 'tap'
import { isLocalAddress, localAddresses } from '#shared/http/local-address.ts'

t.test('loopback in every spelling is local', async (t) => {
  for (const address of ['127.0.0.1', '127.0.0.6', '127.255.0.1', '::1', '0:0:0:0:0:0:0:1']) {
    t.equal(isLocalAddress(address), true, address)
  }
})

t.test('every address of an interface is local', async (t) => {
  const entries = Object.values(networkInterfaces()).flatMap((list) => list ?? [])
  t.ok(entries.length > 0)
  for (const { address } of entries) t.equal(isLocalAddress(address), true, address)
})

t.test('for many questions the machine is asked once, and for loopback never', async (t) => {
  let asked = 0
  const isHere = localAddresses(() => (asked++, new Set(['192.0.2.7', '2001:db8::7'])))
  t.ok(isHere('127.0.0.9') && isHere('::1'))
  t.equal(asked, 0)
  t.ok(isHere('192.0.2.7') && isHere('2001:DB8:0::7'))
  t.notOk(isHere('192.0.2.8') || isHere('nonsense'))
  t.equal(asked, 1)
})

t.test('other machines, every address and no address are not', async (t) => {
  const others = [
    '192.0.2.1',
    '169.254.169.254',
    '2001:db8::1',
    '0.0.0.0',
    '::',
    '::ffff:127.0.0.1',
  ]
  for (const address of [...others, 'localhost', '', '127.1', '0x7f.0.0.1', '::1%lo']) {
    t.equal(isLocalAddress(address), false, address)
  }
})
