import t from 'tap'
import { Zone, type NamedService } from '#agent/dns/zone.ts'
import { must, parseServiceName } from '#shared/model/names.ts'

const orders: NamedService = {
  service: must(parseServiceName('orders')),
  ipv4: '240.240.0.7',
  ipv6: 'fd00:1::7',
  ports: [80, 8080],
}
const plain: NamedService = {
  service: must(parseServiceName('plain')),
  ipv4: '240.240.0.8',
  ipv6: null,
  ports: [],
}
const all = [orders, plain]

function zone(known = true): Zone {
  return new Zone({
    names: {
      known,
      find: (name) => all.find(({ service }) => service === name),
      at: (address) => {
        const found = all.find(({ ipv4, ipv6 }) => ipv4 === address || ipv6 === address)
        if (found !== undefined) return found.service
        return address.startsWith('240.240.') ? null : undefined
      },
    },
  })
}

/** What an answer says, in few words. */
function says(name: string, type: string, known = true): unknown {
  const answer = zone(known).answer(name.toLowerCase(), name, type)
  if (answer.kind !== 'records') return answer.kind
  return answer.answers.map((record) => ('data' in record ? record.data : null))
}

t.test('Zone answers the addresses of a service, and only those there are', async (t) => {
  t.same(says('orders.mesh', 'A'), ['240.240.0.7'])
  t.same(says('orders.mesh', 'AAAA'), ['fd00:1::7'])
  t.same(says('orders.mesh', 'ANY'), ['240.240.0.7', 'fd00:1::7'])
  t.same(says('plain.mesh', 'A'), ['240.240.0.8'])
  t.equal(says('plain.mesh', 'AAAA'), 'no-data')
  t.equal(says('orders.mesh', 'TXT'), 'no-data')
})

t.test('Zone repeats the name as it was asked', async (t) => {
  const answer = zone().answer('orders.mesh', 'oRDers.MEsh', 'A')
  t.match(answer, { answers: [{ name: 'oRDers.MEsh' }] })
})

t.test('Zone answers ports by SRV, under both names', async (t) => {
  const wanted = [80, 8080].map((port) => ({ priority: 0, weight: 0, port, target: 'orders.mesh' }))
  t.same(says('orders.mesh', 'SRV'), wanted)
  t.same(says('_orders._tcp.mesh', 'SRV'), wanted)
  t.match(zone().answer('_orders._tcp.mesh', '_orders._tcp.mesh', 'SRV'), {
    extra: [{ name: 'orders.mesh', type: 'A' }, { type: 'AAAA' }],
  })
  t.equal(says('plain.mesh', 'SRV'), 'no-data')
  t.equal(says('_orders._tcp.mesh', 'A'), 'no-data')
  t.equal(says('_none._tcp.mesh', 'SRV'), 'no-name')
})

t.test('Zone tells a missing name from a missing type, and from not knowing yet', async (t) => {
  for (const name of ['none.mesh', 'a.orders.mesh', 'constructor.mesh', '__proto__.mesh']) {
    t.equal(says(name, 'A'), 'no-name', name)
    t.equal(says(name, 'A', false), 'not-known-yet', name)
  }
  for (const name of ['mesh', '_tcp.mesh', 'ns.mesh']) t.equal(says(name, 'A'), 'no-data', name)
  t.match(zone().answer('none.mesh', 'none.mesh', 'A'), {
    authority: { name: 'mesh', type: 'SOA', data: { minimum: 2 } },
  })
})

t.test('Zone owns its top, and the addresses backwards', async (t) => {
  t.same(says('mesh', 'NS'), ['ns.mesh'])
  t.match(says('mesh', 'SOA'), [{ mname: 'ns.mesh' }])
  t.same(says('7.0.240.240.in-addr.arpa', 'PTR'), ['orders.mesh'])
  const reverse = `7${'.0'.repeat(23)}.1.0.0.0.0.0.d.f.ip6.arpa`
  t.same(says(reverse, 'PTR'), ['orders.mesh'])
  t.equal(says('7.0.240.240.in-addr.arpa', 'A'), 'no-data')
  t.equal(says('9.0.240.240.in-addr.arpa', 'PTR'), 'no-name')
})

t.test('Zone leaves the names of others alone', async (t) => {
  for (const name of [
    '',
    'example.org',
    'orders.mesh.example.org',
    'omesh',
    '1.2.3.4.in-addr.arpa',
  ])
    t.equal(says(name, 'A'), 'foreign', name)
})
