import t from 'tap'
import { judge, type Candidate, type Judgement } from '#agent/manifests/judge.ts'
import { readManifest } from '#shared/schema/manifest.ts'

function candidate(name: string, mtimeMs: number, content: unknown, lastGood?: unknown): Candidate {
  const path = `/m/${name}.json`
  const user = name.includes('/') ? (name.split('/')[0] ?? null) : null
  const parse = (value: unknown) =>
    readManifest(
      path,
      Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)),
      user === null ? {} : { owner: user },
    )
  const last = lastGood === undefined ? null : parse(lastGood)
  return {
    path,
    user,
    mtimeMs,
    reading: parse(content),
    lastGood: last?.ok === true ? last.manifest : null,
  }
}

const rules = {
  isLocal: () => true,
  userServices: { alice: ['web-*'], constructor: ['x'] },
  own: [
    { what: 'the forward proxy', address: '127.0.0.1', first: 15_002 },
    { what: 'callers', address: '', first: 17_000, last: 19_999 },
  ],
  explicitAddress: '127.0.0.1',
}
const judged = (...candidates: readonly Candidate[]) => judge(candidates, rules)
const inForce = (judgements: readonly Judgement[]) =>
  judgements.map(({ manifest }) => manifest?.service ?? null)

t.test(
  'files that claim different things are all accepted, in the order of their names',
  async (t) => {
    const judgements = judged(
      candidate('web', 1, { upstreams: { orders: 9001 } }),
      candidate('orders', 2, { port: 8080, upstreams: { users: 9002 } }),
    )
    t.match(judgements, [
      { path: '/m/orders.json', verdict: 'accepted', problems: [] },
      { path: '/m/web.json', verdict: 'accepted' },
    ])
  },
)

t.test('of two that claim one service the older wins and the other is told which', async (t) => {
  const judgements = judged(
    candidate('a', 2, { port: 8080, name: 'orders' }),
    candidate('b', 1, { port: 8081, name: 'orders' }),
  )
  t.match(judgements, [
    {
      verdict: 'rejected',
      manifest: null,
      problems: [
        {
          rule: 'already-claimed',
          line: 1,
          column: 21,
          message: /"orders" is taken by \/m\/b\.json/,
        },
      ],
    },
    { verdict: 'accepted', problems: [] },
  ])
  t.match(
    judged(
      candidate('a', 1, { port: 8080, name: 'orders' }),
      candidate('b', 1, { port: 8081, name: 'orders' }),
    ),
    [{ verdict: 'accepted' }, { verdict: 'rejected' }],
    'of the same age, the first by name',
  )
})

t.test('of two that claim one upstream port the older wins', async (t) => {
  t.match(
    judged(
      candidate('a', 1, { upstreams: { x: 9001 } }),
      candidate('b', 2, { upstreams: { w: 9000, x: 9001 } }),
    ),
    [
      { verdict: 'accepted' },
      {
        verdict: 'rejected',
        problems: [{ path: '/upstreams/x', message: /local port 9001 is taken by \/m\/a\.json/ }],
      },
    ],
  )
})

t.test('a claim in force is not lost by touching its file', async (t) => {
  const orders = { port: 8080, name: 'orders' }
  t.match(judged(candidate('a', 9, { ...orders, weight: 5 }, orders), candidate('b', 5, orders)), [
    { verdict: 'accepted', manifest: { weight: 5 } },
    { verdict: 'rejected' },
  ])
})

t.test('a bad file keeps its last good version, with its claims', async (t) => {
  const judgements = judged(
    candidate('a', 9, '{"port": ', { port: 8080, name: 'orders' }),
    candidate('b', 1, { port: 1, name: 'orders' }),
  )
  t.match(judgements, [
    { verdict: 'rejected', manifest: { service: 'orders', port: 8080 }, problems: [{ line: 1 }] },
    { verdict: 'rejected', manifest: null, problems: [{ message: /taken by \/m\/a\.json/ }] },
  ])
})

t.test('a new version that claims too much leaves the last good one in force', async (t) => {
  t.strictSame(
    inForce(
      judged(
        candidate('a', 1, { port: 1, name: 'orders' }, { port: 1, name: 'orders' }),
        candidate('b', 2, { port: 2, name: 'orders' }, { port: 2, name: 'users' }),
      ),
    ),
    ['orders', 'users'],
  )
})

t.test('two files may swap their names', async (t) => {
  const [a, b] = [
    { port: 1, name: 'orders' },
    { port: 2, name: 'users' },
  ]
  const judgements = judged(candidate('a', 1, b, a), candidate('b', 2, a, b))
  t.strictSame(inForce(judgements), ['users', 'orders'])
  t.match(judgements, [{ verdict: 'accepted' }, { verdict: 'accepted' }])
})

t.test('a name given up may be taken; who gave it up for a bad version gets nothing', async (t) => {
  const judgements = judged(
    candidate('a', 2, { port: 1, name: 'taken' }, { port: 1, name: 'orders' }),
    candidate('b', 1, { port: 2, name: 'orders' }),
    candidate('c', 1, { port: 3, name: 'taken' }, { port: 3, name: 'taken' }),
  )
  t.match(judgements, [
    { verdict: 'rejected', manifest: null },
    { verdict: 'accepted', manifest: { service: 'orders', port: 2 } },
    { verdict: 'accepted' },
  ])
})

t.test('an address of another host is refused, also in a last good version', async (t) => {
  const far = { port: 1, address: '192.0.2.1' }
  const judgements = judge([candidate('a', 1, far, far)], {
    ...rules,
    isLocal: (address) => address === '127.0.0.1',
  })
  t.match(judgements, [
    {
      verdict: 'rejected',
      manifest: null,
      problems: [{ rule: 'not-local', path: '/address', column: 21 }],
    },
  ])
})

t.test('no service is where the agent itself listens, by whatever name', async (t) => {
  const ports = { ports: { http: 15_001, proxy: 15_002 } }
  const [first, ...rest] = judged(
    candidate('a', 1, ports, { port: 15_002 }),
    candidate('alice/alice', 2, { port: 19_999, address: '127.0.0.2' }),
    candidate('b', 3, { port: 15_002, address: '127.0.0.2' }),
  )
  t.match(first, {
    manifest: null,
    problems: [
      {
        rule: 'agents-port',
        path: '/ports/proxy',
        message: 'port 15002 of 127.0.0.1 is the agent’s own: the forward proxy',
      },
    ],
  })
  t.match(rest, [
    { verdict: 'rejected', problems: [{ path: '/port', message: /callers/ }] },
    { verdict: 'accepted' },
  ])
})

t.test(
  'of two that claim one place the older wins; another address is another place',
  async (t) => {
    const judgements = judged(
      candidate('a', 2, { port: 8080 }),
      candidate('b', 1, { port: 8080 }),
      candidate('c', 3, { port: 8080, address: '127.0.0.2' }),
    )
    t.match(judgements, [
      {
        verdict: 'rejected',
        problems: [
          { path: '/port', message: /port 8080 of 127\.0\.0\.1 is taken by \/m\/b\.json/ },
        ],
      },
      { verdict: 'accepted' },
      { verdict: 'accepted' },
    ])
  },
)

t.test(
  'a user registers the service of his own name and those granted, nothing else',
  async (t) => {
    const verdicts = (name: string, content: object) =>
      judged(candidate(name, 1, content)).flatMap(({ problems }) => problems.map((one) => one.rule))
    t.strictSame(verdicts('alice/a', { name: 'alice', port: 8080 }), [])
    t.strictSame(verdicts('alice/a', { name: 'web-shop', port: 8080 }), [])
    t.strictSame(verdicts('alice/a', { name: 'orders', port: 8080 }), ['not-yours'])
    t.strictSame(verdicts('bob/a', { name: 'web-shop', port: 8080 }), ['not-yours'])
    t.strictSame(verdicts('toString/a', { name: 'web-shop', port: 8080 }), ['not-yours'])
    t.strictSame(verdicts('bob/a', { name: 'bob', port: 8080, address: '10.0.0.1' }), [
      'not-loopback',
    ])
    t.strictSame(verdicts('bob/a', { name: 'bob', upstreams: { orders: 1023 } }), ['system-port'])
    t.strictSame(verdicts('bob/a', { name: 'bob', port: 80, upstreams: { orders: 1024 } }), [])
  },
)

t.test('a user has no port of others in the mesh, at whatever address', async (t) => {
  const judgements = judged(
    candidate('alice/alice', 1, { address: '127.0.0.3', ports: { web: 8080, admin: 9090 } }),
    candidate('bob/bob', 0, { address: '::1', port: 8080 }, { address: '::1', port: 8080 }),
    candidate('carol/carol', 4, { port: 9091, ports: { admin: 9090 } }),
    candidate('orders', 9, { port: 8080, address: '127.0.0.2' }),
    candidate('users', 9, { port: 8080 }),
  )
  const message = /port 8080, at whatever address, is taken by \/m\/\w+\.json, the administrator’s/
  t.match(judgements, [
    { verdict: 'rejected', problems: [{ path: '/ports/web', rule: 'already-claimed', message }] },
    { verdict: 'rejected', manifest: null, problems: [{ path: '/port', message }] },
    { verdict: 'accepted' },
    { verdict: 'accepted' },
    { verdict: 'accepted' },
  ])
  t.match(
    judged(
      candidate('alice/alice', 2, { port: 8080 }),
      candidate('alice/b', 3, { name: 'web-b', port: 8080, address: '127.0.0.2' }),
      candidate('alice/c', 4, { name: 'web-c', port: 8080 }),
      candidate('bob/bob', 5, { port: 8080, address: '127.0.0.3' }),
    ),
    [
      { verdict: 'accepted' },
      { verdict: 'accepted' },
      { problems: [{ message: /port 8080 of 127\.0\.0\.1 is taken by \/m\/alice\/alice\.json/ }] },
      {
        problems: [{ message: /port 8080, .* is taken by \/m\/alice\/b\.json, which came first/ }],
      },
    ],
    'what is his own he may have at two addresses',
  )
})

t.test('a user has no port checked that is none of his service', async (t) => {
  const problems = (health: object, name = 'bob/bob') =>
    judged(candidate(name, 1, { port: 8080, ports: { admin: 9090 }, health })).flatMap((one) =>
      one.problems.map(({ rule, path }) => `${rule} ${path}`),
    )
  t.strictSame(problems({ kind: 'http', port: 9999, path: '/wipe' }), ['not-yours /health/port'])
  t.strictSame(problems([{ port: 9090 }, { name: 'b', port: 1 }]), ['not-yours /health/1/port'])
  t.strictSame(problems([{ port: 8080 }, { name: 'b', portName: 'admin' }]), [])
  t.strictSame(problems({ port: 9999 }, 'orders'), [], 'the administrator may')
})

t.test('a local port is neither a service’s nor the agent’s own', async (t) => {
  const [orders, web] = [{ port: 9001 }, { upstreams: { orders: 9001 } }]
  t.match(judged(candidate('orders', 1, orders), candidate('web', 2, web)), [
    { verdict: 'accepted' },
    { problems: [{ path: '/upstreams/orders', message: /local port 9001 is taken by .*orders/ }] },
  ])
  t.match(judged(candidate('orders', 2, orders), candidate('web', 1, web)), [
    { problems: [{ path: '/port', message: /port 9001 of 127\.0\.0\.1 is taken by .*web/ }] },
    { verdict: 'accepted' },
  ])
  t.match(
    judged(candidate('orders', 1, { ...orders, address: '127.0.0.2' }), candidate('web', 2, web)),
    [{ verdict: 'accepted' }, { verdict: 'accepted' }],
    'another address is another place',
  )
  const own = (port: number) => judged(candidate('web', 1, { upstreams: { orders: port } }))
  t.match(own(15_002), [
    { problems: [{ rule: 'agents-port', path: '/upstreams/orders', message: /forward proxy/ }] },
  ])
  t.match(own(17_000), [{ problems: [{ rule: 'agents-port', message: /callers/ }] }])
})

t.test('what a user was once granted is not kept for him when it is no more', async (t) => {
  const was = { name: 'shop', port: 8080 }
  t.match(judged(candidate('alice/a', 1, was, was)), [{ verdict: 'rejected', manifest: null }])
})

t.test('the administrator’s file goes before a user’s, however old that looks', async (t) => {
  const mine = { name: 'alice', port: 8080, upstreams: { x: 9001 } }
  const judgements = judged(
    candidate('alice/a', 0, mine, mine),
    candidate('orders', 9, { port: 8080, upstreams: { y: 9001 } }),
  )
  t.match(judgements, [
    {
      path: '/m/alice/a.json',
      verdict: 'rejected',
      manifest: null,
      problems: [
        { message: /taken by \/m\/orders\.json, the administrator’s, which goes first/ },
        { path: '/upstreams/x' },
      ],
    },
    { verdict: 'accepted' },
  ])
})

t.test('a user is one service’s, and a local user says nothing of others', async (t) => {
  const judgements = judged(
    candidate('a', 1, { port: 8080, run: { user: 'shop' } }),
    candidate('b', 2, { port: 8081, run: { user: 'shop' } }),
    candidate('alice/alice', 3, { port: 8082, run: { user: 'bob' }, intercept: ['10.0.0.5:80'] }),
    candidate('alice/api', 4, { external: { addresses: ['203.0.113.5'], port: 443 } }),
  )
  t.match(judgements, [
    { verdict: 'accepted' },
    { problems: [{ rule: 'not-yours' }, { rule: 'not-yours' }] },
    { problems: [{ rule: 'not-yours' }, { rule: 'not-yours' }] },
    { problems: [{ rule: 'already-claimed', message: /user "shop" is taken by \/m\/a\.json/ }] },
  ])
})
