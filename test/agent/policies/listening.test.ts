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

t.test('openPorts reads the kernel’s lists as they are written', async (t) => {
  const head = '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n'
  const line = (local: string, state: string): string =>
    `   0: ${local} 00000000:0000 ${state} 00000000:00000000 00:00000000 00000000     0\n`
  const lists: Readonly<Record<string, string>> = {
    '/proc/net/tcp':
      head +
      line('0500000A:1F90', '0A') +
      line('0100007F:1F91', '0A') +
      line('0500000A:1F92', '01'),
    '/proc/net/tcp6':
      head +
      line('00000000000000000000000000000000:1F90', '0A') +
      line('00000000000000000000000001000000:1F91', '0A') +
      line('0000000000000000FFFF00000100007F:1F92', '0A') +
      line('B80D0120000000000000000001000000:1F93', '0A'),
  }
  const ports = openPorts((path) => lists[path] ?? '')
  t.same(Object.fromEntries(ports), { 8080: ['10.0.0.5', '::'], 8083: ['2001:db8::1'] })
  t.same(Object.fromEntries(openPorts(() => '')), {})
})
