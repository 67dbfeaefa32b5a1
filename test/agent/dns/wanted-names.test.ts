/** Holds questions that wait for a name to their bounds, and the responder to asking for what it lacks. */

import dnsPacket from 'dns-packet'
import t from 'tap'
import { WantedNames } from '#agent/dns/wanted-names.ts'
import { Responder } from '#agent/dns/responder.ts'
import { Zone } from '#agent/dns/zone.ts'
import { must, parseServiceName } from '#shared/model/names.ts'
import { FakeClock } from '#test/support/fake-clock.ts'

t.test('a wait ends when the name has an address, or after a second without', async (t) => {
  const clock = new FakeClock()
  const names = new Set(['carts'])
  const wanted = new WantedNames({ clock, has: (name) => names.has(name) })
  await wanted.wait('carts')
  const ended: string[] = []
  const waits = ['orders', 'mail'].map((name) => wanted.wait(name).then(() => ended.push(name)))
  names.add('orders')
  wanted.refresh()
  await clock.advance(0)
  t.same(ended, ['orders'])
  await clock.advance(1000)
  await Promise.all(waits)
  t.same(ended, ['orders', 'mail'])
  t.equal(clock.pending, 0)
})

t.test('a name that is not known is looked for, and what is known is in use', async (t) => {
  const known = new Set<string>()
  const [asked, used]: [string[], string[]] = [[], []]
  const zone = new Zone({
    names: {
      known: true,
      find: (name) => {
        const service = must(parseServiceName('orders'))
        return known.has(name)
          ? { service, ipv4: '240.240.0.7', ipv6: null, ports: [8080] }
          : undefined
      },
      at: () => undefined,
    },
  })
  const responder = new Responder({
    zone,
    forwarder: { ask: () => Promise.resolve(null) },
    count: () => {},
    services: {
      async lookUp(service) {
        asked.push(service)
        if (service === 'orders') known.add('orders')
      },
      used: (service) => void used.push(service),
    },
  })
  const ask = async (name: string, type: 'A' | 'SRV' = 'A'): Promise<string | undefined> => {
    const question = dnsPacket.encode({
      type: 'query',
      id: 1,
      flags: 256,
      questions: [{ name, type }],
    })
    const answer = await responder.respond(question, 'udp')
    return answer === null
      ? undefined
      : (dnsPacket.decode(answer) as { readonly rcode?: string }).rcode
  }
  t.equal(await ask('orders.mesh'), 'NOERROR')
  t.equal(await ask('orders.mesh'), 'NOERROR')
  t.equal(await ask('_nobody._tcp.mesh', 'SRV'), 'NXDOMAIN')
  t.equal(await ask('admin.nobody.mesh'), 'NXDOMAIN')
  t.same(asked, ['orders', 'nobody', 'nobody'])
  t.same(used, ['orders'])
})
