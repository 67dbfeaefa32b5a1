import * as fc from 'fast-check'
import t from 'tap'
import {
  must,
  parsePort,
  parsePortName,
  parseServiceName,
  parseTrustDomain,
} from '#shared/model/names.ts'
import type { Policy } from '#shared/model/policy.ts'
import type { RequestFacts } from '#shared/model/request.ts'
import { hostId, serviceId, type SpiffeId } from '#shared/model/spiffe-id.ts'
import { CompiledPolicy } from '#shared/policy/compiled-policy.ts'
import type { Verdict } from '#shared/policy/caller-policy.ts'
import { PolicyTable } from '#shared/policy/policy-table.ts'
import { openPolicy, servicePolicyOf } from '#shared/policy/service-policy.ts'
import { queryOf, readRequestPath } from '#shared/route/request-path.ts'
import { policyOf } from '#test/support/policies.ts'

const trustDomain = must(parseTrustDomain('mesh.internal'))
const orders = must(parseServiceName('orders'))
const destination = serviceId(trustDomain, orders)
const web = serviceId(trustDomain, must(parseServiceName('web')))
const evil = serviceId(trustDomain, must(parseServiceName('evil')))
const host = hostId(trustDomain, must(parseServiceName('h1')) as never)
const port = must(parsePort(8080))

interface Ask {
  readonly source?: SpiffeId | null
  readonly method?: string
  readonly target?: string
  readonly host?: string
  readonly fields?: Readonly<Record<string, string>> | readonly (readonly [string, string])[]
  readonly nominated?: readonly string[]
}

function requestOf({ method = 'GET', target = '/', fields = {}, ...rest }: Ask): RequestFacts {
  const names = (Array.isArray(fields) ? fields : Object.entries(fields)).map(([name]) => name)
  return {
    method,
    path: readRequestPath(target),
    query: queryOf(target),
    host: rest.host ?? 'orders.mesh',
    pathOverride: names.find((name) => /^x.(original|rewrite).url$/.test(name)) ?? '',
    methodOverride: names.find((name) => /^x.(http.)?method/.test(name)) ?? '',
    lines: Array.isArray(fields) ? fields : Object.entries(fields),
    nominated: rest.nominated === undefined ? null : new Set(rest.nominated),
  }
}

function compiled(...policies: readonly Policy[]): CompiledPolicy {
  return new CompiledPolicy(servicePolicyOf(orders, policies), { trustDomain, destination })
}

function verdict(policy: CompiledPolicy, ask: Ask = {}): Verdict {
  return policy
    .forCaller(ask.source === undefined ? web : ask.source, port, true)
    .judge(requestOf(ask))
}

/** `ok`, or the reason and the rule of a refusal. */
function say(answer: Verdict): string {
  return answer.kind === 'permitted'
    ? 'ok'
    : `${answer.refusal.reason} ${answer.refusal.ref.rule}:${answer.refusal.ref.line}`
}

t.test(
  'a service of which nothing is said takes whoever has an identity of the mesh',
  async (t) => {
    const policy = compiled()
    t.equal(say(verdict(policy)), 'ok')
    t.equal(say(verdict(policy, { source: host })), 'ok')
    t.match(verdict(policy, { source: null }), {
      refusal: { ref: { rule: 'default allow-mesh' }, detail: /without an identity/ },
    })
    t.equal(policy.forCaller(web, port, true).isOpen, false, 'no request is looked into')
    t.equal(servicePolicyOf(orders, []), openPolicy)
  },
)

t.test('whoever names those who may call denies the others, with file and line', async (t) => {
  const policy = compiled(policyOf({ services: ['orders'], allow: [{ from: ['web'] }] }))
  t.equal(say(verdict(policy)), 'ok')
  t.match(verdict(policy, { source: evil }), {
    refusal: {
      reason: 'policy-denied',
      ref: { rule: 'default deny', file: '/p.json' },
      detail: /^default deny \(\/p\.json:\d+\): no rule allows this to spiffe:.*\/evil, calling/,
    },
  })
  t.equal(say(verdict(policy, { source: null })).split(' ')[0], 'policy-denied')
})

t.test('deny wins over allow, allow over the default', async (t) => {
  const policy = compiled(
    policyOf({
      services: ['*'],
      allow: [{ from: ['*'] }],
      deny: [{ name: 'no-evil', from: ['evil'] }],
    }),
  )
  t.equal(say(verdict(policy)), 'ok')
  t.match(say(verdict(policy, { source: evil })), /^policy-denied no-evil/)
})

t.test('the strictest default of several counts, and allow-all takes anybody', async (t) => {
  const all = policyOf({ services: ['orders'], defaultPolicy: 'allow-all' })
  t.equal(say(verdict(compiled(all), { source: null })), 'ok')
  const mesh = policyOf({ services: ['orders'], defaultPolicy: 'allow-mesh' })
  t.match(say(verdict(compiled(all, mesh), { source: null })), /default allow-mesh/)
  const deny = policyOf({ services: ['orders'], defaultPolicy: 'deny' })
  t.match(say(verdict(compiled(deny, all, mesh))), /default deny/)
  const other = policyOf({ services: ['files', 'ord'], defaultPolicy: 'deny' })
  t.equal(say(verdict(compiled(other))), 'ok', 'policies for others say nothing')
  t.match(say(verdict(compiled({ ...other, services: ['ord*'] }))), /default deny/)
})

t.test('strict is a service of which anything is allowed or denied in earnest', async (t) => {
  const strict = (wish: Parameters<typeof policyOf>[0]): boolean =>
    servicePolicyOf(orders, [policyOf(wish)]).strict
  const services = ['orders']
  t.equal(strict({ services, allow: [{ from: ['web'] }] }), true)
  t.equal(strict({ services, deny: [{ from: ['web'] }] }), true)
  t.equal(strict({ services, defaultPolicy: 'deny' }), true)
  t.equal(strict({ services, defaultPolicy: 'allow-all' }), false)
  t.equal(strict({ services, policyMode: 'audit', deny: [{ from: ['web'] }] }), false)
})

t.test('methods: GET stands for HEAD, and a rule that denies fits any case', async (t) => {
  const services = ['orders']
  const deny = compiled(policyOf({ services, deny: [{ methods: ['DELETE', 'GET'] }] }))
  for (const method of ['DELETE', 'delete', 'DeLeTe', 'GET', 'HEAD', 'head'])
    t.match(say(verdict(deny, { method })), /^policy-denied deny\[0\]/, method)
  t.equal(say(verdict(deny, { method: 'POST' })), 'ok')
  const allow = compiled(policyOf({ services, allow: [{ methods: ['GET'] }] }))
  for (const method of ['GET', 'HEAD']) t.equal(say(verdict(allow, { method })), 'ok')
  for (const method of ['get', 'POST', 'GETS', ''])
    t.match(say(verdict(allow, { method })), /^policy-denied/, method)
})

t.test(
  'a request that asks to have its method replaced is ambiguous to method rules',
  async (t) => {
    const policy = compiled(policyOf({ services: ['orders'], deny: [{ methods: ['DELETE'] }] }))
    const asks: readonly Ask[] = [
      { fields: { 'x-http-method-override': 'DELETE' } },
      { fields: { x_http_method_override: 'DELETE' } },
      { fields: { 'x-method-override': 'DELETE' } },
      { target: '/a?_method=DELETE' },
      { target: '/a?x=1&%5Fmethod=DELETE' },
      { target: '/a?x=1;_method=DELETE' },
      { target: '/a?_%6Dethod[]=DELETE' },
    ]
    for (const ask of asks)
      t.match(say(verdict(policy, { method: 'POST', ...ask })), /^ambiguous-request deny/)
    t.equal(say(verdict(policy, { method: 'POST', target: '/a?method=DELETE&b=%5F%zz' })), 'ok')
  },
)

t.test('paths: what denies fits broadly, what allows exactly', async (t) => {
  const services = ['orders']
  const deny = compiled(policyOf({ services, deny: [{ paths: ['/Admin/*', '/keys'] }] }))
  for (const target of [
    '/admin',
    '/ADMIN/',
    '/Admin/x',
    '/admin/x/y?z',
    '/keys/',
    '/KEYS',
    '/keys.',
  ])
    t.match(say(verdict(deny, { target })), /^policy-denied/, target)
  for (const target of ['/', '/administrators', '/keys/1', '/a?/admin'])
    t.equal(say(verdict(deny, { target })), 'ok', target)
  const allow = compiled(policyOf({ services, allow: [{ paths: ['/a', '/o/{id}'] }] }))
  for (const target of ['/a', '/a?b', '/o/7', '/o/x%20y'])
    t.equal(say(verdict(allow, { target })), 'ok', target)
  for (const target of ['/A', '/a/', '/o/', '/o/7/8', '*', '/'])
    t.match(say(verdict(allow, { target })), /^policy-denied/, target)
})

t.test('an ambiguous path is refused only where a rule depends on it', async (t) => {
  const odd = '/x/../admin'
  t.equal(say(verdict(compiled(), { target: odd })), 'ok')
  const services = ['orders']
  const rule = { from: ['web'], methods: ['POST'], paths: ['/admin/*'] }
  const deny = compiled(policyOf({ services, deny: [rule] }))
  t.match(verdict(deny, { target: odd, method: 'POST' }), {
    refusal: { reason: 'ambiguous-request', detail: /deny\[0\] .* its path: .*dot segment/ },
  })
  t.equal(say(verdict(deny, { target: odd, method: 'PUT' })), 'ok', 'not about this method')
  t.equal(
    say(verdict(deny, { target: odd, method: 'POST', source: evil })),
    'ok',
    'nor this caller',
  )
  const allow = compiled(policyOf({ services, allow: [{ paths: ['/a'] }, { methods: ['GET'] }] }))
  t.equal(say(verdict(allow, { target: odd })), 'ok', 'another rule allows it however it is read')
  t.match(say(verdict(allow, { target: odd, method: 'PUT' })), /^ambiguous-request allow\[0\]/)
})

t.test('hosts fit without case and port; a request without one is ambiguous', async (t) => {
  const services = ['orders']
  const deny = compiled(policyOf({ services, deny: [{ hosts: ['admin.mesh', '*.secret'] }] }))
  for (const one of ['admin.mesh', 'a.secret', 'a.b.secret'])
    t.match(say(verdict(deny, { host: one })), /^policy-denied/, one)
  for (const one of ['secret', 'xadmin.mesh', 'notsecret'])
    t.equal(say(verdict(deny, { host: one })), 'ok', one)
  t.match(say(verdict(deny, { host: '' })), /^ambiguous-request/)
})

t.test('headers: any of several denies, only a single one allows', async (t) => {
  const services = ['orders']
  const deny = compiled(
    policyOf({ services, deny: [{ headers: { 'x-tenant': ['Evil', 'b-*'] } }] }),
  )
  for (const value of ['Evil', 'evil', 'good, evil', 'good,EVIL ', 'b-7'])
    t.match(say(verdict(deny, { fields: { 'x-tenant': value } })), /^policy-denied/, value)
  const twice = {
    fields: [
      ['x-tenant', 'good'],
      ['x-tenant', 'evil'],
    ] as const,
  }
  t.match(say(verdict(deny, twice)), /^policy-denied/)
  t.equal(say(verdict(deny, { fields: { 'x-tenant': 'good' } })), 'ok')
  t.equal(say(verdict(deny)), 'ok')
  const allow = compiled(policyOf({ services, allow: [{ headers: { 'x-tenant': ['good'] } }] }))
  t.equal(say(verdict(allow, { fields: { 'x-tenant': 'good' } })), 'ok')
  for (const fields of [{}, { 'x-tenant': 'Good' }, { 'x-tenant': 'good, evil' }])
    t.match(say(verdict(allow, { fields })), /^policy-denied/)
  t.match(say(verdict(allow, twice)), /^policy-denied/)
  t.match(say(verdict(allow, { fields: { 'x-tenant': 'good', x_tenant: 'evil' } })), /^ambiguous/)
  const dropped = { fields: { 'x-tenant': 'good' }, nominated: ['x-tenant'] }
  t.match(say(verdict(allow, dropped)), /^ambiguous/)
})

t.test('ports are those of the service', async (t) => {
  const policy = compiled(policyOf({ services: ['orders'], deny: [{ ports: [8080] }] }))
  t.match(say(verdict(policy)), /^policy-denied/)
  t.equal(policy.forCaller(web, must(parsePort(9)), true).connection.kind, 'permitted')
})

t.test('on raw bytes, who may be denied is, and who may be allowed is not', async (t) => {
  const kind = (wish: Omit<Parameters<typeof policyOf>[0], 'services'>): string =>
    compiled(policyOf({ services: ['orders'], ...wish })).forCaller(web, port, false).connection
      .kind
  t.equal(kind({ deny: [{ paths: ['/a'] }] }), 'denied')
  t.equal(kind({ deny: [{ from: ['evil'], paths: ['/a'] }] }), 'permitted')
  t.equal(kind({ allow: [{ from: ['web'], methods: ['GET'] }] }), 'denied')
  t.equal(kind({ allow: [{ from: ['web'] }] }), 'permitted')
})

t.test('a connection is denied at once where no request could be allowed', async (t) => {
  const policy = compiled(
    policyOf({ services: ['orders'], allow: [{ from: ['web'], paths: ['/a'] }] }),
  )
  const caller = policy.forCaller(web, port, true)
  t.equal(caller.isOpen, true)
  t.equal(caller.connection.kind, 'permitted')
  t.equal(policy.forCaller(evil, port, true).connection.kind, 'denied')
  t.equal(policy.forCaller(web, port, true), caller, 'and what was found out is kept')
})

t.test('a policy in audit mode lets pass, and says what it would have said', async (t) => {
  const services = ['orders']
  const audit = policyOf({ services, policyMode: 'audit', deny: [{ paths: ['/admin'] }] })
  const policy = compiled(audit)
  const passed = verdict(policy, { target: '/admin' })
  t.match(passed, {
    kind: 'permitted',
    permit: { rule: 'default allow-mesh', audit: { ref: { rule: 'deny[0]' } } },
  })
  t.match(verdict(policy, { target: '/a' }), { permit: { audit: null } })
  t.match(verdict(policy, { target: '//' }), { permit: { audit: { reason: 'ambiguous-request' } } })
  const both = compiled(audit, policyOf({ services, deny: [{ from: ['evil'] }] }))
  t.match(say(verdict(both, { source: evil })), /^policy-denied/, 'others are obeyed')
  t.match(verdict(both, { target: '/admin' }), { permit: { audit: { ref: { rule: 'deny[0]' } } } })
  const allow = policyOf({ services, policyMode: 'audit', allow: [{ from: ['web'] }] })
  const byDefault = { permit: { audit: { ref: { rule: 'default deny' } } } }
  t.match(verdict(compiled(allow), { source: evil }), byDefault)
  t.match(verdict(compiled(allow)), { permit: { audit: null } })
})

t.test('PolicyTable keeps a policy the same object until it changes', async (t) => {
  const table = new PolicyTable()
  const policies = {
    orders: servicePolicyOf(orders, [policyOf({ services: ['*'], deny: [{ from: ['evil'] }] })]),
  }
  table.apply({ trustDomain, policies })
  const first = table.of(orders)
  table.apply({ trustDomain, policies: structuredClone(policies) })
  t.equal(table.of(orders), first)
  table.apply({ trustDomain, policies: {} })
  t.not(table.of(orders), first)
  t.equal(table.of(must(parseServiceName('constructor'))).enforced.deny.length, 0)
})

t.test('more rules that deny never permit more, more that allow never deny more', async (t) => {
  const rule = fc.record(
    {
      from: fc.subarray(['web', 'evil', 'host/*', '*'], { minLength: 1 }),
      methods: fc.subarray(['GET', 'POST', 'DELETE'], { minLength: 1 }),
      paths: fc.subarray(['/a', '/a/*', '/b*', '/{x}/c'], { minLength: 1 }),
    },
    { requiredKeys: ['from'] },
  )
  const rules = fc.array(rule, { maxLength: 3 })
  const ask = fc.record({
    source: fc.constantFrom(web, evil, host, null),
    method: fc.constantFrom('GET', 'HEAD', 'POST', 'DELETE'),
    target: fc.constantFrom('/', '/a', '/A/', '/a/c', '/b', '/x/c', '/a//c', '/%61'),
  })
  fc.assert(
    fc.property(rules, rules, rule, ask, (allow, deny, more, call) => {
      const permits = (a: typeof allow, d: typeof deny): boolean => {
        const wish = { services: ['orders'], defaultPolicy: 'deny' as const, allow: a, deny: d }
        return verdict(compiled(policyOf(wish)), call).kind === 'permitted'
      }
      const before = permits(allow, deny)
      if (!before) t.notOk(permits(allow, [...deny, more]))
      if (before) t.ok(permits([...allow, more], deny))
    }),
    { numRuns: 1000, seed: 7 },
  )
})

t.test(
  'a rule about a port by name counts for its number, and for nothing where there is none',
  async (t) => {
    const wish = policyOf({
      services: ['orders'],
      allow: [
        { from: ['web'], ports: [80, 'admin'] },
        { from: ['web'], ports: ['gone'] },
      ],
      deny: [{ from: ['*'], ports: ['gone'] }],
    })
    const named = {
      name: must(parsePortName('admin')),
      port: must(parsePort(9090)),
      protocol: 'tcp',
    }
    const policy = servicePolicyOf(orders, [wish], [{ ...named, protocol: 'tcp' }])
    t.same(
      policy.enforced.allow.map(({ ports }) => ports),
      [[80, 9090]],
    )
    t.same(policy.enforced.deny, [], 'a rule about no port denies nothing')
    t.equal(policy.enforced.fallback.policy, 'deny', 'and whoever is not allowed is still denied')
    const lost = servicePolicyOf(orders, [
      policyOf({ services: ['orders'], allow: [{ from: ['web'], ports: ['gone'] }] }),
    ])
    t.match(lost.enforced, { allow: [], fallback: { policy: 'deny' } })
  },
)
