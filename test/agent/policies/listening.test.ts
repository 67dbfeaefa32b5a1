import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import t from 'tap'
import { openPorts } from '#agent/policies/listening.ts'

t.test('openPorts tells where a port is listened on beyond loopback', async (t) => {
  const listen = async (address: string): Promise<number> => {
    const server = createServer().listen(0, address)
    await once(server, 'listening')
    t.teardown(() => void server.close())
    return (server.address() as AddressInfo).port
  }
  const [loopback, all] = [await listen('127.0.0.1'), await listen('0.0.0.0')]
  const ports = openPorts()
  t.equal(ports.get(loopback), undefined)
  t.same(ports.get(all), ['0.0.0.0'])
})

t.test('openPorts gathers the addresses of a port, each once', async (t) => {
  const places: readonly (readonly [string, number])[] = [
    ['10.0.0.5', 8080],
    ['127.0.0.1', 8081],
    ['::', 8080],
    ['::', 8080],
    ['::1', 8081],
    ['2001:db8::1', 8083],
  ]
  const ports = openPorts(places.map(([address, port]) => ({ address, port, user: 0 })))
  t.same(Object.fromEntries(ports), { 8080: ['10.0.0.5', '::'], 8083: ['2001:db8::1'] })
})
