import t from 'tap'
import { Endpoint, ejectionDefaults, mayEject, slowStartMs } from '#agent/balance/endpoint.ts'

t.test('Endpoint earns an ejection by connect failures in a row only', (t) => {
  const endpoint = new Endpoint(100)
  t.notOk(endpoint.failed('connect', ejectionDefaults))
  endpoint.succeeded()
  t.notOk(endpoint.failed('connect', ejectionDefaults))
  t.ok(endpoint.failed('connect', ejectionDefaults))
  t.end()
})

t.test('Endpoint stays out twice as long with each ejection, up to the limit', (t) => {
  const endpoint = new Endpoint(100)
  endpoint.eject(0, ejectionDefaults)
  t.equal(endpoint.ejectedUntil, 1000)
  endpoint.eject(0, ejectionDefaults)
  t.equal(endpoint.ejectedUntil, 2000)
  for (let i = 0; i < 40; i++) endpoint.eject(0, ejectionDefaults)
  t.equal(endpoint.ejectedUntil, 30_000)
  endpoint.succeeded()
  endpoint.eject(0, ejectionDefaults)
  t.equal(endpoint.ejectedUntil, 1000)
  t.end()
})

t.test('mayEject never gives up the only instance, nor more than half', (t) => {
  const many = Array.from({ length: 4 }, () => new Endpoint(1))
  t.notOk(mayEject(many.slice(0, 1), 0))
  t.ok(mayEject(many.slice(0, 2), 0))
  for (const endpoint of many.slice(0, 2)) endpoint.ejectedUntil = 10
  t.notOk(mayEject(many, 0))
  t.ok(mayEject(many, 10), 'ejections that are over do not count')
  t.end()
})

t.test('mayEject counts instances of lost hosts among those that are out', (t) => {
  const [a, b, c] = [new Endpoint(1), new Endpoint(1), new Endpoint(1)]
  t.ok(mayEject([a, b, c, new Endpoint(1)], 0))
  a.host = { isLost: true }
  b.host = { isLost: true }
  t.notOk(mayEject([a, b, c, new Endpoint(1)], 0))
  t.end()
})

t.test('Endpoint warms up from a tenth of its share to all of it', (t) => {
  const endpoint = new Endpoint(100)
  endpoint.warmUntil = 1000 + slowStartMs
  t.equal(endpoint.warmth(1000), 0.1)
  t.equal(endpoint.warmth(1000 + slowStartMs / 2), 0.5)
  t.equal(endpoint.warmth(1000 + slowStartMs), 1)
  t.end()
})
