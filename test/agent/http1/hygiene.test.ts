import t from 'tap'
import { passes, ruleFor, trailerPasses, type Origin } from '#agent/http1/hygiene.ts'

const origins: readonly Origin[] = [
  'caller-request',
  'peer-request',
  'service-response',
  'peer-response',
]

function verdict(name: string): string {
  // As it stands in a head, with something before and behind it.
  const text = `A: b\r\n${name}: c\r\n`
  const { verdict } = ruleFor(text, 6, 6 + name.length)
  return origins.filter((origin) => passes(verdict, origin)).join(' ')
}

t.test('passes lets hop-by-hop fields end here', async (t) => {
  const names = `connection keep-alive proxy-connection proxy-authenticate proxy-authorization te
    trailer transfer-encoding upgrade content-length http2-settings content_length
    transfer_encoding keep_alive CONTENT-LENGTH Content.Length tRANSFER~eNCODING`
  for (const name of names.split(/\s+/)) t.equal(verdict(name), '', name)
})

t.test('passes believes forwarding fields of peer agents alone', async (t) => {
  const names =
    'forwarded x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-port x-real-ip'
  for (const name of names.split(' ')) {
    t.equal(verdict(name), 'peer-request service-response peer-response', name)
  }
  const disguised = `x_forwarded_for x-forwarded_for x_real_ip x-forwarded_host X_Forwarded_For
    x.forwarded.for x-forwarded.proto x!real|ip`
  for (const name of disguised.split(/\s+/)) {
    t.equal(verdict(name), 'service-response peer-response', name)
  }
})

t.test('passes takes identity and ids from nobody', async (t) => {
  const identities = `x-forwarded-client-cert x_forwarded_client_cert x-request-id X-Request-Id
    x.request.id X-Forwarded-Client_Cert`
  for (const name of identities.split(/\s+/)) {
    t.equal(verdict(name), 'service-response peer-response', name)
  }
  const meshes = `x-mesh-source x-mesh-anything x_mesh_source x-mesh_source X-MESH-SOURCE x.mesh.source
    x-mesh- X_Mesh- x-mesh-${'a'.repeat(100)} x~mesh~source x-mesh.reason`
  for (const name of meshes.split(/\s+/)) {
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
  const others = `accept cookie x_custom x-meshed xmesh-source x-mes ax-mesh-source __proto__
    constructor authorization expect www_authenticate hosts hos h ${'x'.repeat(5000)}`
  for (const name of others.split(/\s+/)) {
    t.equal(verdict(name), all, name)
  }
})

t.test('ruleFor knows a field by its name only where that is plainly spelt', async (t) => {
  const nameOf = (name: string) => ruleFor(name, 0, name.length).name
  t.equal(nameOf('Content-Length'), 'content-length')
  t.equal(nameOf('Content_Length'), '')
  t.equal(nameOf('AUTHORIZATION'), 'authorization')
  t.equal(nameOf('www.authenticate'), '')
  t.equal(nameOf('accept'), '')
  t.equal(nameOf('x-mesh-source'), '')
})

t.test('trailerPasses takes out what frames, routes, authenticates or identifies', async (t) => {
  const names = `content-length transfer-encoding host authorization cookie set-cookie content-type
    content_type Content.Type X.Mesh.Source x-mesh-source x_mesh_source x-mesh-reason x-forwarded-for x-forwarded-client-cert
    x-request-id connection expect trailer te`
  for (const name of names.split(/\s+/)) t.notOk(trailerPasses(name), name)
  for (const name of ['x-checksum', 'grpc-status', 'server-timing']) t.ok(trailerPasses(name), name)
})
