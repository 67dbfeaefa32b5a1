/** Holds the controller's config to its defaults, its rules, and reporting all faults at once. */

import t from 'tap'
import { readControllerConfig } from '#controller/config.ts'
import type { ControllerConfig } from '#controller/config.ts'
import { renderProblem } from '#shared/schema/problem.ts'

type Reading = { readonly config: ControllerConfig | null; readonly problems: readonly string[] }

function read(file: unknown, environment: Record<string, string> = {}): Reading {
  const bytes = Buffer.from(JSON.stringify(file, null, 2))
  const reading = readControllerConfig(
    { file: { path: 'c.json', bytes }, environment },
    { hostname: 'Ctl1.example.org' },
  )
  return reading.ok
    ? { config: reading.config, problems: [] }
    : { config: null, problems: reading.problems.map(renderProblem) }
}

t.test('an empty file gives the documented defaults', async (t) => {
  t.same(read({}).config, {
    name: 'ctl1',
    trustDomain: 'mesh.internal',
    advertise: 'ctl1.example.org',
    listen: {
      api: { host: '0.0.0.0', port: 15010 },
      store: { host: '0.0.0.0', port: 15379 },
      metrics: { host: '127.0.0.1', port: 15014 },
    },
    store: { kind: 'embedded' },
    state: '/var/lib/mesh/controller',
    leafTtlMs: 86_400_000,
    log: { level: 'info' },
  })
})

t.test('the environment goes before the file', async (t) => {
  const { config } = read(
    { name: 'a', listen: { api: '127.0.0.1:1' } },
    { MESH_CONTROLLER_NAME: 'b', MESH_CONTROLLER_LISTEN_API: '[::1]:2' },
  )
  t.equal(config?.name, 'b')
  t.same(config?.listen.api, { host: '::1', port: 2 })
  t.ok(Object.isFrozen(config?.listen))
})

t.test('every fault is reported, with its place', async (t) => {
  const { config, problems } = read(
    {
      name: 'Bad Name',
      trustDomain: 'Mesh',
      advertise: 'a:b:c:',
      listen: { api: 'here', metrics: 'localhost:1' },
      store: 'https://etcd',
      state: 'relative',
      leafTtlSeconds: 19,
      lisen: {},
    },
    { MESH_CONTROLLER_LOG_LEVEL: 'loud' },
  )
  t.equal(config, null)
  for (const part of [
    'name',
    'trust domain',
    'advertise',
    'listen.api',
    'listen.metrics',
    'store "https',
    'state "relative"',
    'leafTtlSeconds',
    '"lisen"',
    'MESH_CONTROLLER_LOG_LEVEL',
  ]) {
    t.ok(
      problems.some((problem) => problem.includes(part)),
      part,
    )
  }
  t.ok(problems.filter((problem) => /^c\.json:\d+:\d+: /.test(problem)).length >= 9)
})

t.test('an etcd with TLS may be anywhere, and all of it has TLS', async (t) => {
  const store = 'https://10.0.0.1:2379,https://e2.example:2379'
  t.same(read({ store }).config?.store, { kind: 'etcd', endpoints: store.split(',') })
  t.match(read({ store: `${store},http://127.0.0.1:2379` }).problems, [/mixes http and https/])
})

t.test('an etcd without TLS must be local, or accepted in so many words', async (t) => {
  const local = 'http://127.0.0.1:2379,http://[::1]:2379,http://localhost:2379'
  t.same(read({ store: local }).config?.store, { kind: 'etcd', endpoints: local.split(',') })
  const remote = 'http://10.0.0.1:2379'
  t.match(read({ store: remote }).problems, [/storeInsecure/])
  t.match(read({ store: remote, storeInsecure: true }).config?.store, { endpoints: [remote] })
  for (const store of ['', 'etcd', 'http://h', 'http://u:p@127.0.0.1:1', 'http://127.0.0.1:1/x']) {
    t.equal(read({ store }).config, null, store)
  }
})
