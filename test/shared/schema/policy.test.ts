import * as fc from 'fast-check'
import t from 'tap'
import { readPolicy } from '#shared/schema/policy.ts'
import { renderProblem } from '#shared/schema/problem.ts'

const file = '/etc/mesh/policies.d/orders.json'

function rendered(text: string): readonly string[] {
  const reading = readPolicy(file, Buffer.from(text))
  return reading.ok ? [] : reading.problems.map(renderProblem)
}

t.test('readPolicy reads every condition, and where each rule stands', async (t) => {
  const text = JSON.stringify(
    {
      $schema: './policy.schema.json',
      services: ['orders', 'billing-*'],
      deny: [
        { name: 'no-admin', paths: ['/admin/*', '/a*', '/o/{id}'], methods: ['GET'] },
        { from: ['web', 'host/*'], hosts: ['*.a.mesh'], ports: [8080] },
      ],
      allow: [{ headers: { 'X-Tenant': ['acme', 'b-*', '*'] } }],
      defaultPolicy: 'deny',
      policyMode: 'audit',
    },
    null,
    1,
  )
  const reading = readPolicy(file, Buffer.from(text))
  t.match(reading.ok && reading.policy, {
    file,
    services: ['orders', 'billing-*'],
    mode: 'audit',
    fallback: { policy: 'deny', ref: { rule: 'default deny', file } },
    deny: [
      {
        ref: { rule: 'no-admin', line: 8 },
        methods: ['GET'],
        paths: [{ kind: 'subtree' }, { kind: 'prefix' }, { kind: 'exact', template: true }],
      },
      { ref: { rule: 'deny[1]', line: 19 }, hosts: ['*.a.mesh'], ports: [8080] },
    ],
    allow: [
      {
        ref: { rule: 'allow[0]' },
        headers: [
          {
            name: 'x-tenant',
            values: [
              { kind: 'exact', text: 'acme' },
              { kind: 'prefix', text: 'b-' },
              { kind: 'prefix', text: '' },
            ],
          },
        ],
      },
    ],
  })
  t.ok(reading.ok && Object.isFrozen(reading.policy.deny[0]))
})

t.test('readPolicy refuses what means nothing, or not what it seems, and says where', async (t) => {
  const rule = (text: string): string => `{"services": ["a"], "deny": [${text}]}`
  const cases: Readonly<Record<string, RegExp>> = {
    '{': /json:1:2/,
    '[]': /document must be an object/,
    '{"services": ["a"]}': /nothing is allowed, denied/,
    '{"deny": [{"from": ["*"]}]}': /services is missing/,
    '{"services": [], "defaultPolicy": "deny"}': /services must be a list of 1 to 256/,
    '{"services": ["A"], "defaultPolicy": "deny"}': /services\.0 must be/,
    '{"services": ["a*b"], "defaultPolicy": "deny"}': /services\.0 must be/,
    '{"services": ["a"], "allow": []}': /allow must be a list of 1/,
    '{"services": ["a"], "alow": [], "defaultPolicy": "deny"}': /unknown key "alow".*"allow"/,
    [rule('{}')]: /a rule without conditions .*"from": \["\*"\]/,
    [rule('{"name": "x"}')]: /a rule without conditions/,
    [rule('{"name": "a b", "from": ["*"]}')]: /name must be/,
    [rule('{"from": []}')]: /from must be a list of 1/,
    [rule('{"from": ["*web"]}')]: /:1:40: "\*web" holds a \*/,
    [rule('{"methods": ["get"]}')]: /method "get" must be in capitals/,
    [rule('{"paths": ["admin"]}')]: /path "admin" must begin with \//,
    [rule('{"paths": ["/a%2f"]}')]: /write the character itself/,
    [rule('{"paths": ["/a/../b"]}')]: /dot segment/,
    [rule('{"hosts": ["A.mesh"]}')]: /host "A.mesh" must be a name in lower case/,
    [rule('{"hosts": ["a.mesh:80"]}')]: /without port/,
    [rule('{"headers": {}}')]: /a rule without|headers/,
    [rule('{"headers": {"host": ["a"]}}')]:
      /no rule can depend on the field "host" \(use "hosts"\)/,
    [rule('{"headers": {"X-Mesh-Source": ["a"]}}')]: /use "from"/,
    [rule('{"headers": {"a b": ["a"]}}')]: /cannot be a key/,
    [rule('{"headers": {"a": ["x "]}}')]: /blanks at its ends/,
    [rule('{"ports": [0]}')]: /ports\.0 must be a whole number from 1/,
    [rule('{"from": ["web"], "extra": 1}')]: /unknown key "extra"/,
  }
  for (const [text, expected] of Object.entries(cases)) t.match(rendered(text), [expected], text)
})

t.test('readPolicy never throws, and what it takes has no rule that fits everything', async () => {
  const value = fc.oneof(fc.constantFrom('*', 'web', '/a', '/a/*', '', 'GET', 7, null), fc.string())
  const list = fc.array(value, { maxLength: 2 })
  const rule = fc.record(
    { from: list, methods: list, paths: list, hosts: list, ports: list, headers: fc.object() },
    { requiredKeys: [] },
  )
  const document = fc.record(
    {
      services: fc.constantFrom(['a'], ['*'], [], 7),
      allow: fc.array(rule, { maxLength: 2 }),
      deny: fc.array(fc.oneof(rule, value), { maxLength: 2 }),
      defaultPolicy: fc.constantFrom('deny', 'allow-all', 'x'),
    },
    { requiredKeys: ['services'] },
  )
  fc.assert(
    fc.property(document, (raw) => {
      const reading = readPolicy(file, Buffer.from(JSON.stringify(raw)))
      if (!reading.ok) return reading.problems.length > 0
      return [...reading.policy.allow, ...reading.policy.deny].every(
        ({ from, methods, paths, hosts, headers, ports }) =>
          [from, methods, paths, hosts, headers, ports].some(({ length }) => length > 0),
      )
    }),
    { numRuns: 1000, seed: 7 },
  )
})
