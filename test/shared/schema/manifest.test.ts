import { equal } from 'node:assert/strict'
import * as fc from 'fast-check'
import t from 'tap'
import { manifestSchema, readManifest } from '#shared/schema/manifest.ts'
import { renderProblem } from '#shared/schema/problem.ts'

const read = (text: string, file = '/etc/mesh.d/orders.json') =>
  readManifest(file, Buffer.from(text))

function rendered(text: string, file?: string): readonly string[] {
  const reading = read(text, file)
  return reading.ok ? [] : reading.problems.map(renderProblem)
}

void t.test('the smallest manifest is a port; the file names the service', (t) => {
  const reading = read('{"port": 8080}')
  t.strictSame(reading.ok && reading.manifest, {
    file: '/etc/mesh.d/orders.json',
    service: 'orders',
    port: 8080,
    address: '127.0.0.1',
    protocol: 'http',
    declared: null,
    ports: [],
    weight: 100,
    warningWeight: 100,
    health: [
      {
        kind: 'tcp',
        name: 'tcp',
        intervalMs: 1000,
        timeoutMs: 1000,
        rise: 1,
        fall: 2,
        initial: 'failing',
      },
    ],
    upstreams: [],
    requires: [],
    inbound: 'permissive',
    intercept: [],
    onAgentDown: 'direct',
    drainMs: 30_000,
  })
  t.ok(
    reading.ok && Object.isFrozen(reading.manifest) && Object.isFrozen(reading.manifest.health[0]),
  )
  t.end()
})

void t.test('a manifest without a port is a pure caller', (t) => {
  const reading = read('{"name": "web", "upstreams": {"orders": 9001, "users": 9002}}')
  t.match(reading, {
    ok: true,
    manifest: {
      service: 'web',
      upstreams: [
        { service: 'orders', port: 9001 },
        { service: 'users', port: 9002 },
      ],
    },
  })
  t.equal(reading.ok && 'port' in reading.manifest, false)
  t.end()
})

void t.test('every key is taken over', (t) => {
  const text = JSON.stringify({
    $schema: './manifest.schema.json',
    name: 'db',
    port: 5432,
    address: '::1',
    protocol: 'tcp',
    weight: 7,
    health: { kind: 'http', path: '/up?deep=1', intervalMs: 500, timeoutMs: 50, rise: 3, fall: 4 },
    upstreams: { audit: 7001 },
    requires: ['users'],
    version: '1.4.2-rc1',
    tags: ['canary', 'eu'],
    metadata: { team: 'payments', constructor: 'x', 'a.b/c': '' },
    zone: 'rack-7',
    drainMs: 0,
  })
  t.match(read(text), {
    ok: true,
    manifest: {
      service: 'db',
      port: 5432,
      address: '::1',
      protocol: 'tcp',
      declared: 'tcp',
      weight: 7,
      warningWeight: 7,
      health: [
        {
          kind: 'http',
          path: '/up?deep=1',
          intervalMs: 500,
          timeoutMs: 50,
          rise: 3,
          fall: 4,
        },
      ],
      upstreams: [{ service: 'audit', port: 7001 }],
      requires: ['users'],
      version: '1.4.2-rc1',
      tags: ['canary', 'eu'],
      metadata: { team: 'payments', constructor: 'x', 'a.b/c': '' },
      zone: 'rack-7',
      drainMs: 0,
    },
  })
  t.end()
})

void t.test('all problems of a file are reported together, each with its place', (t) => {
  const text = `{
  "prot": 8080,
  "port": "8080",
  "address": "localhost",
  "protocol": "htpp",
  "health": {"kind": "http", "path": "no slash", "rise": 0, "pth": "/"},
  "upstreams": {"Orders": 1, "a": "x", "b": 9001, "c": 9001}
}`
  t.strictSame(rendered(text, 'o.json'), [
    'o.json:2:3: unknown key "prot" (did you mean "port"?)',
    'o.json:3:11: port must be a whole number from 1 to 65535, not "8080" (write it without quotes: 8080)',
    'o.json:4:14: address "localhost" is not an IP address (write the address the service listens on, such as "127.0.0.1")',
    'o.json:5:15: protocol must be one of "http", "http2", "grpc", "tcp", "tls", not "htpp" (did you mean "http"?)',
    'o.json:6:38: health.path "no slash" is not a request target (start with / and percent-encode spaces and anything that is not ASCII)',
    'o.json:6:58: health.rise must be a whole number from 1 to 100, not 0 (passes in a row that make it healthy)',
    'o.json:6:61: unknown key "pth" (did you mean "path"?)',
    'o.json:7:17: "Orders" cannot be a key of upstreams (names of services (lower-case letters, digits, hyphens) and the local ports that lead to them: {"orders": 9001}; a named port as "admin.orders")',
    'o.json:7:35: upstreams.a must be a whole number from 1 to 65535, not "x" (local port on which this service reaches the other one)',
    'o.json:7:56: port 9001 already leads to "b" (give each upstream a port of its own)',
  ])
  t.end()
})

void t.test('health may be a list of checks of every kind', (t) => {
  const health = [
    { kind: 'http', path: '/up', port: 9090 },
    { kind: 'grpc', service: 'shop.Orders' },
    { kind: 'systemd', unit: 'orders@1.service' },
    { kind: 'push', name: 'disk', ttlMs: 60_000, initial: 'passing' },
    { name: 'again' },
  ]
  t.match(read(JSON.stringify({ port: 80, weight: 9, warningWeight: 3, health })), {
    ok: true,
    manifest: {
      warningWeight: 3,
      health: [
        { kind: 'http', name: 'http', path: '/up', port: 9090 },
        { kind: 'grpc', grpcService: 'shop.Orders' },
        { kind: 'systemd', unit: 'orders@1.service', intervalMs: 5000 },
        { kind: 'push', name: 'disk', ttlMs: 60_000, initial: 'passing' },
        { kind: 'tcp', name: 'again', initial: 'failing' },
      ],
    },
  })
  t.end()
})

void t.test('single mistakes have one problem each', (t) => {
  const cases: readonly (readonly [string, string, RegExp])[] = [
    ['{}', 'nothing-to-do', /neither a port nor an upstream/],
    ['{"upstreams": {}}', 'nothing-to-do', /neither a port nor an upstream/],
    ['[]', 'wrong-value', /the document must be an object/],
    ['null', 'wrong-value', /not null/],
    ['{"port": 8080.5}', 'wrong-value', /not 8080.5/],
    ['{"port": 0}', 'wrong-value', /not 0/],
    ['{"port": 1e999}', 'wrong-value', /port must be a whole number/],
    ['{"port": null}', 'wrong-value', /not null/],
    ['{"port": [80, 81]}', 'wrong-value', /not \[80,81\]/],
    ['{"port": 80, "name": "Orders"}', 'wrong-value', /name must be/],
    ['{"port": 80, "name": ""}', 'wrong-value', /name must be/],
    ['{"port": 80, "address": "0.0.0.0"}', 'not-an-address', /every address/],
    ['{"port": 80, "health": "http"}', 'wrong-value', /health must be an object/],
    ['{"port": 80, "health": {"path": "/up"}}', 'unused-key', /no effect on a tcp check/],
    ['{"port": 80, "health": []}', 'wrong-value', /a list of 1 to 8 items/],
    ['{"port": 80, "health": [{}, 5]}', 'wrong-value', /health\.1 must be an object/],
    ['{"port": 80, "health": [{}, {}]}', 'duplicate-check', /two checks are called "tcp"/],
    ['{"port": 80, "health": [{"pth": "/"}]}', 'unknown-key', /"pth"/],
    ['{"port": 80, "health": {"kind": "htpp", "path": "/"}}', 'wrong-value', /health\.kind/],
    ['{"port": 80, "health": {"kind": "push", "rise": 2}}', 'unused-key', /no effect on a push/],
    ['{"port": 80, "health": {"kind": "systemd"}}', 'missing-key', /needs a unit/],
    ['{"port": 80, "health": {"kind": "systemd", "unit": "-H x.service"}}', 'wrong-value', /unit/],
    ['{"port": 80, "health": {"kind": "systemd", "unit": "--x.service"}}', 'wrong-value', /unit/],
    ['{"port": 80, "weight": 0}', 'wrong-value', /from 1 to 1000/],
    ['{"port": 80, "requires": ["a", "b", "a"]}', 'bad-name', /"a" is given twice/],
    ['{"port": 80, "requires": ["orders"]}', 'bad-name', /orders cannot require itself/],
    ['{"port": 80, "requires": ["A"]}', 'wrong-value', /requires.0 must be/],
    ['{"port": 80, "tags": ["a", "a"]}', 'duplicate-tag', /"a" is given twice/],
    ['{"port": 80, "tags": ["a b"]}', 'wrong-value', /tags.0 must be/],
    ['{"port": 80, "version": "1 2"}', 'wrong-value', /version must be/],
    ['{"port": 80, "zone": ""}', 'wrong-value', /zone must be/],
    ['{"port": 80, "metadata": {"": "x"}}', 'bad-key', /cannot be a key of metadata/],
    ['{"port": 80, "metadata": {"a": 1}}', 'wrong-value', /metadata.a must be a text/],
    ['{"requires": ["a"], "weight": 5}', 'unused-key', /weight has no effect without a port/],
    ['{"port": 80, "upstreams": [9001]}', 'wrong-value', /upstreams must be an object/],
    ['{"port": 80, "upstreams": {"a\\nb": 81}}', 'bad-key', /cannot be a key/],
    ['{"port": 80, "upstreams": {"users": 80}}', 'port-taken', /orders itself listens/],
    ['{"port": 80, "port": 80}', 'duplicate-key', /given twice/],
    ['{"port": 80, "__proto__": {}}', 'forbidden-key', /refused/],
    ['{"port": 80, "constructor": 1}', 'unknown-key', /unknown key "constructor"/],
    ['{"port": 80', 'json-syntax', /expected , or }/],
  ]
  for (const [text, rule, message] of cases) {
    const reading = read(text)
    t.match(reading, { ok: false, problems: [{ rule, message }] }, text)
    t.equal(reading.ok || reading.problems.length, 1, text)
  }
  t.match(rendered('{"port": 80}', '/etc/mesh.d/My Service.json'), [
    /^\/etc\/mesh\.d\/My Service\.json:1:1: service name "My Service" must be .*rename the file/,
  ])
  t.end()
})

void t.test('a push check with a pace is told what it has instead', (t) => {
  for (const key of ['intervalMs', 'timeoutMs', 'rise', 'fall']) {
    const [line = ''] = rendered(`{"port": 80, "health": {"kind": "push", "${key}": 100}}`)
    t.match(line, `health.${key} has no effect on a push check (remove the ${key}: `)
    t.match(line, 'counts for "ttlMs")')
  }
  const [other = ''] = rendered('{"port": 80, "health": {"kind": "push", "path": "/up"}}')
  t.match(other, 'add "kind": "http", or remove the path')
  t.end()
})

void t.test('more mistakes than the schema library reports by itself are all reported', (t) => {
  const upstreams = Object.fromEntries(Array.from({ length: 40 }, (_, n) => [`s${n}`, 'x']))
  t.equal(rendered(JSON.stringify({ upstreams })).length, 40)
  t.end()
})

void t.test('problems beyond a hundred are counted', (t) => {
  const keys = Object.fromEntries(Array.from({ length: 150 }, (_, n) => [`key${n}`, 1]))
  const lines = rendered(JSON.stringify({ port: 80, ...keys }))
  t.equal(lines.length, 101)
  t.match(lines[100], /50 more problems/)
  t.end()
})

void t.test('readManifest answers and never throws, whatever the bytes', (t) => {
  const good = JSON.stringify({
    name: 'orders',
    port: 8080,
    health: { kind: 'http', path: '/up' },
    upstreams: { users: 9001 },
  })
  const bytes = fc
    .tuple(fc.nat(), fc.nat({ max: 12 }), fc.uint8Array({ maxLength: 6 }))
    .map(([at, cut, put]) => {
      const from = at % good.length
      return Buffer.concat([
        Buffer.from(good.slice(0, from)),
        put,
        Buffer.from(good.slice(from + cut)),
      ])
    })
  const value = fc.jsonValue({ maxDepth: 2 })
  const keys = [...Object.keys(manifestSchema.properties), 'prot', 'toString', '']
  const document = fc
    .dictionary(fc.constantFrom(...keys), value)
    .map((object) => Buffer.from(JSON.stringify(object)))
  fc.assert(
    fc.property(fc.oneof(bytes, document), (content) => {
      const reading = readManifest('/etc/mesh.d/orders.json', content)
      if (reading.ok) return
      equal(reading.problems.length > 0, true)
      const places = reading.problems.map(renderProblem)
      equal(new Set(places).size, places.length, 'each problem once')
    }),
    { seed: 4, numRuns: 3000 },
  )
  t.end()
})

void t.test('allow, deny and defaultPolicy become a policy whose rules know their lines', (t) => {
  const reading = read('{\n"port": 8080,\n"allow": ["web",\n"host/h1"],\n"deny": ["evil-*"]}')
  t.match(reading.ok && reading.manifest.policy, {
    services: ['orders'],
    mode: 'enforce',
    fallback: null,
    allow: [
      { ref: { rule: 'allow[0]', file: '/etc/mesh.d/orders.json', line: 3 } },
      { ref: { rule: 'allow[1]', line: 4 }, from: [{ kind: 'exact', text: 'host/h1' }] },
    ],
    deny: [{ ref: { line: 5 }, from: [{ kind: 'prefix', text: 'service/evil-' }] }],
  })
  const audit = read('{"port": 8080, "defaultPolicy": "deny", "policyMode": "audit"}')
  t.match(audit.ok && audit.manifest.policy, { mode: 'audit', fallback: { policy: 'deny' } })
  const silent = read('{"port": 8080}')
  t.equal(silent.ok && silent.manifest.policy, undefined)
  t.end()
})

void t.test('what a manifest says of callers without meaning anything is refused', (t) => {
  const file = '/etc/mesh.d/orders.json'
  const cases: Readonly<Record<string, RegExp>> = {
    '{"port": 1, "allow": []}': /:1:22: allow must be a list of 1 to 256 items, not \[\]/,
    '{"port": 1, "allow": "web"}': /:1:22: allow must be a list/,
    '{"port": 1, "allow": ["Web"]}': /:1:23: "Web" is no name/,
    '{"port": 1, "deny": ["a*b"]}': /:1:22: "a\*b" holds a \* that is not at its end/,
    '{"port": 1, "allow": ["web"], "defaultPolicy": "allow-mesh"}': /:1:13: allow has no effect/,
    '{"port": 1, "policyMode": "audit"}': /:1:27: nothing is allowed, denied/,
    '{"port": 1, "defaultPolicy": "open"}': /defaultPolicy must be one of/,
    '{"upstreams": {"a": 1}, "allow": ["web"]}': /:1:25: allow has no effect without a port/,
  }
  for (const [text, expected] of Object.entries(cases))
    t.match(rendered(text, file), [expected], text)
  t.end()
})

void t.test('who a service is, what leads to it and who may go around the mesh', (t) => {
  const reading = read(
    '{"port": 5432, "run": {"user": "pg"}, "inbound": "strict", "intercept": ["10.0.0.5:5432", "db.internal:5432", "[fd00::5]:1"]}',
  )
  t.match(reading, { manifest: { run: { kind: 'user', user: 'pg' }, inbound: 'strict' } })
  t.match(read('{"run": {"user": "reports"}}'), { ok: true }, 'a caller alone')
  for (const [text, rule] of [
    ['{"port": 1, "run": {}}', 'nothing-to-do'],
    ['{"port": 1, "run": {"user": "root"}}', 'root-is-nobody'],
    ['{"port": 1, "run": {"unit": "orders"}}', 'not-a-unit'],
    ['{"port": 1, "run": {"unit": "../x.service"}}', 'not-a-unit'],
    ['{"port": 1, "run": {"unit": "worker@.service"}}', 'not-a-unit'],
    ['{"port": 1, "run": {"unit": "a.service", "user": "a"}}', 'unused-key'],
    ['{"port": 1, "intercept": ["10.0.0.5"]}', 'not-an-address'],
    ['{"port": 1, "intercept": ["10.0.0.5:22"]}', 'never-captured'],
    ['{"port": 1, "intercept": ["orders.mesh:80"]}', 'never-captured'],
    ['{"port": 1, "intercept": ["a.b:1", "a.b:1"]}', 'duplicate'],
    ['{"run": {"user": "x"}, "inbound": "off"}', 'unused-key'],
  ] as const)
    t.match(read(text), { ok: false, problems: [{ rule }] }, text)
  t.end()
})

void t.test('a service may have several ports by name, of which the first is the main one', (t) => {
  const named = {
    ports: {
      http: 8080,
      admin: { port: 9090, protocol: 'tcp' },
      rpc: { port: 9091, protocol: 'grpc' },
    },
    upstreams: { 'admin.users': 7001 },
    health: [
      { kind: 'http', portName: 'http' },
      { kind: 'tcp', portName: 'admin' },
    ],
  }
  const reading = read(JSON.stringify(named))
  t.match(reading, {
    ok: true,
    manifest: {
      port: 8080,
      protocol: 'http',
      declared: null,
      ports: [
        { name: 'http', port: 8080, protocol: 'http', declared: null },
        { name: 'admin', port: 9090, protocol: 'tcp', declared: 'tcp' },
        { name: 'rpc', port: 9091, protocol: 'tcp', declared: 'grpc' },
      ],
      upstreams: [{ service: 'users', portName: 'admin', port: 7001 }],
      health: [
        { kind: 'http', port: 8080 },
        { kind: 'tcp', port: 9090, portName: 'admin' },
      ],
    },
  })
  const [main] = reading.ok ? reading.manifest.health : []
  t.equal(main?.portName, undefined, 'a check of the main port counts for the service')
  const alone = read('{"port": 1, "ports": {"admin": 2}, "health": {"portName": "admin"}}')
  t.match(alone, {
    ok: true,
    manifest: { health: [{ port: 2 }, { kind: 'tcp', name: 'main-tcp' }] },
  })
  t.match(read('{"port": 1, "ports": {"admin": 2}, "protocol": "tls"}'), {
    ok: true,
    manifest: { port: 1, declared: 'tls', protocol: 'tcp', ports: [{ name: 'admin', port: 2 }] },
  })
  t.end()
})

void t.test('every fault of named ports is told with its place', (t) => {
  t.strictSame(
    rendered(
      `{
  "ports": {"http": 8080, "Admin": 1, "a": "x", "b": 8080, "c": {"prt": 1}, "d": {"port": 0}},
  "protocol": "tcp",
  "health": {"portName": "htp"}
}`,
      'o.json',
    ),
    [
      'o.json:2:27: "Admin" cannot be a key of ports (ports by name (lower-case letters, digits, hyphens, a letter first), called as admin.orders: {"http": 8080, "admin": {"port": 9090, "protocol": "tcp", "allow": ["ops"]}}; without port the first one is the main one)',
      'o.json:2:44: ports.a must be a whole number from 1 to 65535, not "x" (TCP port the service listens on)',
      'o.json:2:54: port 8080 is "http" already (give each name a port of its own)',
      'o.json:2:65: ports.c.port is missing (TCP port the service listens on)',
      'o.json:2:66: unknown key "prt" (did you mean "port"?)',
      'o.json:2:91: ports.d.port must be a whole number from 1 to 65535, not 0 (TCP port the service listens on)',
      'o.json:3:3: protocol has no effect where "ports" gives each port its own (write it there: "http": {"port": 8080, "protocol": …})',
      'o.json:4:26: the service has no port called "htp" (did you mean "http"?)',
    ],
  )
  t.strictSame(rendered('{"port": 1, "ports": {"a": 1}, "upstreams": {"b": 2}}', 'o.json'), [
    'o.json:1:28: port 1 is port already (give each name a port of its own)',
  ])
  t.match(rendered('{"ports": {"a": 5}, "upstreams": {"b": 5}}', 'o.json'), [/itself listens on/])
  t.end()
})

void t.test('a port says who may call it, and then the others do too', (t) => {
  const rulesOf = (content: object) => {
    const reading = read(JSON.stringify(content))
    if (!reading.ok) return reading.problems.map(renderProblem)
    return reading.manifest.policy?.allow.map(({ from, ports, ref }) => [
      ref.rule,
      from.map(({ text }) => text).join(),
      ports.join(),
    ])
  }
  const admin = { port: 9090, allow: ['service/ops'] }
  t.strictSame(rulesOf({ port: 1, ports: { http: 8080, admin }, allow: ['*'] }), [
    ['ports/admin/allow[0]', 'service/ops', '9090'],
    ['allow[0]', '', '1,8080'],
  ])
  t.match(rulesOf({ ports: { http: 8080, admin } }), [/one port says who may call it/])
  t.match(rulesOf({ ports: { admin }, allow: ['*'] }), [/every port says who may call it/])
  t.strictSame(rulesOf({ ports: { admin } }), [['ports/admin/allow[0]', 'service/ops', '9090']])
  t.match(rulesOf({ ports: { admin }, defaultPolicy: 'allow-mesh' }), [/has no effect while/])
  t.end()
})
