import t from 'tap'
import { Endpoint, ejectionDefaults, mayEject } from '#agent/balance/endpoint.ts'

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
