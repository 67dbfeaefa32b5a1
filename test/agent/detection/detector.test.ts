import t from 'tap'
import { Detector } from '#agent/detection/detector.ts'
import { carriageNotes } from '#agent/manifests/carriage-notes.ts'
import type { Finding } from '#shared/model/finding.ts'
import { must, parsePortName, parseServiceName } from '#shared/model/names.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { logLines } from '#test/support/log-lines.ts'
import { manifestOf } from '#test/support/manifests.ts'

const orders = must(parseServiceName('orders'))

function detecting() {
  const clock = new FakeClock()
  const { logger, lines } = logLines()
  const asked: number[] = []
  const world: { up: boolean; finding: Finding | null } = { up: true, finding: { speech: 'tls' } }
  const detector = new Detector({
    clock,
    logger,
    isUp: () => world.up,
    ask: async ({ port }) => {
      asked.push(port)
      return world.finding
    },
  })
  let changes = 0
  detector.onChange(() => (changes += 1))
  return { clock, lines, asked, world, detector, changes: () => changes }
}

t.test('a service is asked once it is up, and again after it was down', async (t) => {
  const { clock, asked, world, detector, changes } = detecting()
  world.up = false
  detector.apply([manifestOf({ port: 8080 })])
  await clock.advance(60_000)
  t.strictSame(asked, [])
  t.equal(detector.protocolOf(orders), null)
  world.up = true
  detector.refresh()
  detector.refresh()
  await clock.advance(0)
  t.strictSame(asked, [8080])
  t.equal(detector.protocolOf(orders), 'tcp')
  t.equal(changes(), 1)
  await clock.advance(120_000)
  detector.refresh()
  t.equal(asked.length, 1)
  world.up = false
  detector.refresh()
  world.up = true
  world.finding = { speech: 'http/1.1' }
  detector.refresh()
  t.equal(detector.protocolOf(orders), 'tcp', 'what is known stays until there is something newer')
  await clock.advance(0)
  t.equal(detector.protocolOf(orders), 'http')
  await detector.stop()
})

t.test('a service that moves keeps what is known of it while it is asked', async (t) => {
  const { clock, asked, detector } = detecting()
  detector.apply([manifestOf({ port: 8080 })])
  await clock.advance(0)
  detector.apply([manifestOf({ port: 8081 })])
  t.equal(detector.protocolOf(orders), 'tcp')
  await clock.advance(0)
  t.strictSame(asked, [8080, 8081])
  detector.apply([])
  t.equal(detector.findingOf(orders), null)
  t.equal(clock.pending, 0)
})

t.test('a silent service counts as HTTP and is asked a few times more', async (t) => {
  const { clock, asked, world, detector } = detecting()
  world.finding = { speech: 'silent' }
  const manifest = manifestOf({ port: 8080, ports: { admin: { port: 9090, protocol: 'tcp' } } })
  const notes = () => carriageNotes(manifest, (name) => detector.findingOf(orders, name))
  detector.apply([manifest])
  t.same(notes(), [], 'it has not been asked')
  await clock.advance(0)
  t.equal(detector.protocolOf(orders), 'http')
  t.match(notes(), [
    /^port 8080: .* says nothing.* carried as HTTP\/1; .* again after it was down: .*"protocol" in the manifest/,
  ])
  t.equal(notes().length, 1, 'what is declared counts')
  await clock.advance(2000)
  t.equal(asked.length, 4)
  world.finding = { speech: 'tcp' }
  await clock.advance(8000)
  t.equal(asked.length, 6)
  t.equal(detector.protocolOf(orders), 'tcp')
  t.same(notes(), [])
  await clock.advance(120_000)
  t.equal(asked.length, 6)
})

t.test('a declared protocol counts, and what cannot be is told', async (t) => {
  const { clock, lines, detector } = detecting()
  detector.apply([manifestOf({ port: 8080, protocol: 'http' })])
  t.equal(detector.protocolOf(orders), 'http')
  await clock.advance(0)
  t.equal(detector.protocolOf(orders), 'http')
  t.equal(detector.mismatchOf(orders), 'declared http, but the service speaks TLS')
  t.match(lines, [{ level: 'warn', service: 'orders', speech: 'tls', mismatch: /TLS/ }])
  detector.apply([manifestOf({ port: 8080, protocol: 'tcp' })])
  t.equal(detector.mismatchOf(orders), '', 'tcp carries whatever it is')
  await detector.stop()
})

t.test('every port of a service is asked by itself, and known by what it declares', async (t) => {
  const { clock, asked, world, detector } = detecting()
  world.finding = null
  const ports = { http: 8080, admin: 9090, rpc: { port: 9091, protocol: 'grpc' } }
  detector.apply([manifestOf({ ports })])
  t.equal(detector.hasAsked(orders), false)
  await clock.advance(0)
  t.strictSame(asked, [8080, 9090, 9091])
  t.equal(detector.hasAsked(orders), true, 'nobody need be there')
  const [admin, rpc] = [must(parsePortName('admin')), must(parsePortName('rpc'))]
  t.strictSame(
    [detector.protocolOf(orders, admin), detector.protocolOf(orders, rpc)],
    [null, 'tcp'],
  )
  world.finding = { speech: 'tls' }
  await clock.advance(2000)
  t.equal(detector.protocolOf(orders, admin), 'tcp')
})

t.test('a declared protocol is doubted where the service cannot speak it', async (t) => {
  const { clock, world, detector } = detecting()
  world.finding = { speech: 'http/1.1' }
  detector.apply([
    manifestOf({ port: 1, protocol: 'tls', ports: { rpc: { port: 2, protocol: 'http2' } } }),
  ])
  await clock.advance(0)
  t.equal(detector.mismatchOf(orders), 'declared tls, but the service speaks HTTP/1')
  t.equal(detector.protocolOf(orders), 'tcp')
  world.finding = { speech: 'tls' }
  detector.apply([
    manifestOf({ port: 1, protocol: 'tls', ports: { rpc: { port: 3, protocol: 'http2' } } }),
  ])
  await clock.advance(0)
  t.equal(
    detector.mismatchOf(orders),
    'declared tls, but the service speaks HTTP/1; rpc: declared http2, but the service speaks TLS',
  )
})
