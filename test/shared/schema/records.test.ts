import t from 'tap'
import {
  decodeHost,
  decodeInstance,
  decodeMeshEntry,
  decodePresence,
  encodeRecord,
} from '#shared/schema/records.ts'
import { must } from '#shared/model/names.ts'

const instance = {
  service: 'orders',
  host: 'a',
  id: '1',
  protocol: 'http',
  port: 8080,
  weight: 100,
  state: 'up',
}
const labelled = {
  ...instance,
  zone: 'rack-7',
  version: '1.4.2',
  tags: ['canary'],
  metadata: { team: 'payments', a: 'b' },
}
const presence = {
  host: 'a',
  address: '10.0.0.1',
  tunnelPort: 15008,
  zone: 'z1',
  version: '0.1.0',
}
const host = { host: 'a', services: ['orders', 'web-*'], enrolledAt: '2026-01-01T00:00:00.000Z' }

t.test('records are read back as they were written', async (t) => {
  const records = {
    '/mesh/v1/instances/orders/a/1': ['instance', must(decodeInstance(JSON.stringify(instance)))],
    '/mesh/v1/instances/orders/a/1 ': ['instance', must(decodeInstance(JSON.stringify(labelled)))],
    '/mesh/v1/presence/a': ['presence', must(decodePresence(JSON.stringify(presence)))],
  } as const
  for (const [key, [kind, record]] of Object.entries(records)) {
    t.strictSame(decodeMeshEntry(key.trim(), encodeRecord(record)), {
      ok: true,
      value: { kind, record },
    })
  }
  for (const usedTokens of [{}, { 'a-token_1': 1_800_000_000_000 }]) {
    const record = must(decodeHost(JSON.stringify({ ...host, usedTokens })))
    t.same(must(decodeHost(encodeRecord(record))), { ...host, usedTokens })
  }
})

t.test('equal records are equal texts, whatever the order of their members', async (t) => {
  const record = must(decodeInstance(JSON.stringify(instance)))
  const turned = Object.fromEntries(Object.entries(record).reverse()) as unknown as typeof record
  t.equal(encodeRecord(turned), encodeRecord(record))
  const other = { ...labelled, metadata: { a: 'b', team: 'payments' } }
  t.equal(
    encodeRecord(must(decodeInstance(JSON.stringify(other)))),
    encodeRecord(must(decodeInstance(JSON.stringify(labelled)))),
  )
})

t.test('members of newer versions are dropped', async (t) => {
  const text = JSON.stringify({ ...instance, colour: 'x', __proto__: { polluted: true } })
  t.strictSame(must(decodeInstance(text)), instance)
})

t.test('a record that names another host, service or id than its key is refused', async (t) => {
  for (const [key, record] of [
    ['/mesh/v1/instances/orders/b/1', instance],
    ['/mesh/v1/instances/billing/a/1', instance],
    ['/mesh/v1/instances/orders/a/2', instance],
    ['/mesh/v1/presence/b', presence],
  ] as const) {
    const decoded = decodeMeshEntry(key, JSON.stringify(record))
    t.match(decoded, { ok: false, problem: /not what its key names/ })
  }
})

t.test('keys this version does not know are left alone', async (t) => {
  t.strictSame(decodeMeshEntry('/mesh/v1/routes/x', 'anything'), {
    ok: true,
    value: { kind: 'unknown' },
  })
})

t.test('bad records are refused with what is wrong', async (t) => {
  for (const [change, problem] of [
    [{ service: 'Orders' }, /\/service/],
    [{ service: 7 }, /\/service/],
    [{ protocol: 'udp' }, /\/protocol/],
    [{ port: 0 }, /\/port/],
    [{ port: 80.5 }, /\/port/],
    [{ port: '8080' }, /\/port/],
    [{ weight: 0 }, /\/weight/],
    [{ weight: 1001 }, /\/weight/],
    [{ state: 'gone' }, /\/state/],
    [{ id: undefined }, /id/],
  ] as const) {
    const decoded = decodeInstance(JSON.stringify({ ...instance, ...change }))
    t.match(decoded, { ok: false, problem }, JSON.stringify(change))
  }
  for (const text of ['', '{', 'null', '[]', '"x"', '7', `{"a":"${'x'.repeat(70_000)}"}`]) {
    t.notOk(decodeInstance(text).ok, text.slice(0, 10))
  }
  const odd = ['aa', '1.2.3.4.5', '::1::', 'fe80::1%lo', '0.0.0.0', '::', '224.0.0.1', 'ff02::1']
  for (const address of [...odd, '255.255.255.255', '240.240.0.9', 'fe80::1', '10.0.0.1/8', '']) {
    const decoded = decodePresence(JSON.stringify({ ...presence, address }))
    t.match(decoded, { ok: false, problem: /\/address: ".*" is not the IP address/ }, address)
  }
  for (const [address, spelled] of [
    ['FD00:0:0:0:0:0:0:B', 'fd00::b'],
    ['::ffff:10.0.0.7', '10.0.0.7'],
    ['::FFFF:A00:7', '10.0.0.7'],
    ['127.0.0.1', '127.0.0.1'],
  ] as const) {
    const decoded = decodePresence(JSON.stringify({ ...presence, address }))
    t.match(decoded, { ok: true, value: { address: spelled } }, 'as the kernel spells it')
  }
  for (const change of [{ address: 'db.internal' }, { tunnelPort: 70_000 }, { zone: null }]) {
    t.notOk(decodePresence(JSON.stringify({ ...presence, ...change })).ok, JSON.stringify(change))
  }
  for (const change of [
    { services: [''] },
    { services: 'orders' },
    { enrolledAt: 'yesterday' },
    { usedTokens: { '../x': 1 } },
    { usedTokens: { a: -1 } },
  ]) {
    t.notOk(decodeHost(JSON.stringify({ ...host, ...change })).ok, JSON.stringify(change))
  }
})
