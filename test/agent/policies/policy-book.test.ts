import t from 'tap'
import { PolicyBook } from '#agent/policies/policy-book.ts'
import type { Manifest } from '#shared/model/manifest.ts'
import { must, parseServiceName } from '#shared/model/names.ts'
import { openPolicy } from '#shared/policy/service-policy.ts'
import { readManifest } from '#shared/schema/manifest.ts'
import { policyOf } from '#test/support/policies.ts'

const orders = must(parseServiceName('orders'))
const local = [{ service: orders }]

function manifestOf(more: object): Manifest {
  const text = JSON.stringify({ port: 8080, ...more })
  const reading = readManifest('/etc/mesh.d/orders.json', Buffer.from(text))
  if (!reading.ok) throw new Error('no manifest')
  return reading.manifest
}

t.test('PolicyBook puts a manifest and the policy files together', async (t) => {
  const book = new PolicyBook()
  const files = [policyOf({ services: ['ord*'], deny: [{ from: ['evil'] }] })]
  book.update({ manifests: [manifestOf({ allow: ['web'] })], files, local })
  t.match(book.of(orders), {
    strict: true,
    enforced: { allow: [{ ref: { file: '/etc/mesh.d/orders.json' } }], deny: [{}] },
  })
  t.same(Object.keys(book.policies), ['orders'])
})

t.test('PolicyBook answers the same object until something changes', async (t) => {
  const book = new PolicyBook()
  const manifests = [manifestOf({ allow: ['web'] })]
  book.update({ manifests, files: [], local })
  const before = book.policies
  book.update({ manifests: [manifestOf({ allow: ['web'], weight: 7 })], files: [], local })
  t.equal(book.policies, before)
  book.update({ manifests: [manifestOf({})], files: [], local })
  t.equal(book.of(orders), openPolicy)
  t.same(book.policies, {})
})

t.test('PolicyBook keeps the policy of a service that drains, and no longer', async (t) => {
  const book = new PolicyBook()
  book.update({ manifests: [manifestOf({ allow: ['web'] })], files: [], local })
  book.update({ manifests: [], files: [], local })
  t.equal(book.of(orders).strict, true, 'its manifest is gone, its callers are not')
  book.update({ manifests: [], files: [], local: [] })
  t.same(book.policies, {})
  book.update({ manifests: [], files: [], local })
  t.equal(book.of(orders), openPolicy)
})
