import t from 'tap'
import { passes, trailerPasses, verdictOn, type Origin } from '#agent/http1/hygiene.ts'

const origins: readonly Origin[] = [
  'caller-request',
  'peer-request',
  'service-response',
  'peer-response',
]

function verdict(name: string): string {
  return origins.filter((origin) => passes(verdictOn(name), origin)).join(' ')
}

t.test('passes lets hop-by-hop fields end here', async (t) => {
  const names = `connection keep-alive proxy-connection proxy-authenticate proxy-authorization te
    trailer transfer-encoding upgrade content-length http2-settings content_length
    transfer_encoding keep_alive`
  for (const name of names.split(/\s+/)) t.equal(verdict(name), '', name)
})

t.test('passes believes forwarding fields of peer agents alone', async (t) => {
  const names =
    'forwarded x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-port x-real-ip'
  for (const name of names.split(' ')) {
    t.equal(verdict(name), 'peer-request service-response peer-response', name)
  }
  for (const name of ['x_forwarded_for', 'x-forwarded_for', 'x_real_ip', 'x-forwarded_host']) {
    t.equal(verdict(name), 'service-response peer-response', name)
  }
})

t.test('passes takes identity and ids from nobody', async (t) => {
  for (const name of ['x-forwarded-client-cert', 'x_forwarded_client_cert', 'x-request-id']) {
    t.equal(verdict(name), 'service-response peer-response', name)
  }
  for (const name of ['x-mesh-source', 'x-mesh-anything', 'x_mesh_source', 'x-mesh_source']) {
    t.equal(verdict(name), '', name)
  }
  t.equal(verdict('x-mesh-reason'), 'peer-response')
  t.equal(verdict('x_mesh_reason'), '')
})

t.test('passes takes Host of no request: it is written from the authority', async (t) => {
  t.equal(verdict('host'), 'service-response peer-response')
})

t.test('passes leaves the rest alone', async (t) => {
  const all = origins.join(' ')
  for (const name of ['accept', 'cookie', 'x_custom', 'x-meshed', '__proto__', 'constructor']) {
    t.equal(verdict(name), all, name)
  }
})

t.test('trailerPasses takes out what frames, routes, authenticates or identifies', async (t) => {
  const names = `content-length transfer-encoding host authorization cookie set-cookie content-type
    content_type x-mesh-source x_mesh_source x-mesh-reason x-forwarded-for x-forwarded-client-cert
    x-request-id connection expect trailer te`
  for (const name of names.split(/\s+/)) t.notOk(trailerPasses(name), name)
  for (const name of ['x-checksum', 'grpc-status', 'server-timing']) t.ok(trailerPasses(name), name)
})
