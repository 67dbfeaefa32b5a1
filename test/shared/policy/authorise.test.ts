import t from 'tap'
import { must, parseHostName, parseServiceName, parseTrustDomain } from '#shared/model/names.ts'
import { hostId, serviceId } from '#shared/model/spiffe-id.ts'
import { authorise } from '#shared/policy/authorise.ts'

const domain = must(parseTrustDomain('mesh.internal'))
const orders = serviceId(domain, must(parseServiceName('orders')))

t.test('authorise lets a proven identity of the mesh call, and says by which rule', (t) => {
  const verdict = authorise(hostId(domain, must(parseHostName('h1'))), orders)
  t.match(verdict, { kind: 'permitted', permit: { rule: 'default allow-mesh' } })
  t.end()
})

t.test('authorise denies a caller without an identity, and says by which rule', (t) => {
  t.match(authorise(null, orders), { kind: 'denied', rule: 'default allow-mesh', detail: /none/ })
  t.end()
})
