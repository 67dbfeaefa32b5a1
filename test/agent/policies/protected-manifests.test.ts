import t from 'tap'
import type { Verdict } from '#agent/manifests/receipt.ts'
import { noFault } from '#agent/manifests/places.ts'
import { ProtectedManifests } from '#agent/policies/protected-manifests.ts'
import type { Policy } from '#shared/model/policy.ts'
import { must, parseServiceName } from '#shared/model/names.ts'
import { readManifest } from '#shared/schema/manifest.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { logLines } from '#test/support/log-lines.ts'
import { policyOf } from '#test/support/policies.ts'

const orders = must(parseServiceName('orders'))

function verdictOf(more: object): Verdict {
  const path = '/etc/mesh.d/orders.json'
  const text = JSON.stringify({ port: 8080, ...more }, null, 1)
  const reading = readManifest(path, Buffer.from(text))
  if (!reading.ok) throw new Error('no manifest')
  return {
    path,
    verdict: 'accepted',
    problems: [],
    manifest: reading.manifest,
    hash: '',
    judgedAtMs: 1000,
    user: null,
  }
}

function makeManifests(more: object) {
  const clock = new FakeClock()
  const told: (() => void)[] = []
  const state = {
    verdicts: [verdictOf(more)],
    policies: [] as readonly Policy[],
    open: new Map<number, readonly string[]>(),
    isLocked: false,
    changes: 0,
  }
  const onChange = (listener: () => void): (() => void) => {
    told.push(listener)
    return () => {}
  }
  const manifests = new ProtectedManifests({
    clock,
    logger: logLines().logger,
    watcher: {
      get verdicts() {
        return state.verdicts
      },
      get manifests() {
        return state.verdicts.flatMap(({ manifest }) => manifest ?? [])
      },
      directoryFault: noFault,
      onChange,
    },
    files: {
      get policies() {
        return state.policies
      },
      onChange,
    },
    lock: { isInForce: () => state.isLocked },
    openPorts: () => state.open,
  })
  manifests.start()
  manifests.onChange(() => void state.changes++)
  t.teardown(() => manifests.stop())
  return { manifests, state, clock, news: () => told.forEach((tell) => tell()) }
}

t.test(
  'a service that says who may call is rejected where others reach it past that',
  async (t) => {
    const { manifests, state, news } = makeManifests({ allow: ['web'] })
    state.open = new Map([[8080, ['0.0.0.0', '10.0.0.5']]])
    news()
    t.same(manifests.manifests, [])
    t.match(manifests.verdicts, [
      {
        verdict: 'rejected',
        manifest: null,
        problems: [
          {
            file: '/etc/mesh.d/orders.json',
            line: 4,
            rule: 'unprotected',
            message:
              'orders listens at 0.0.0.0:8080, 10.0.0.5:8080, where callers reach it past allow[0]',
            hint: /127\.0\.0\.1 only.*audit/,
          },
        ],
      },
    ])
  },
)

t.test('it is noticed when a port is opened, closed or locked', async (t) => {
  const { manifests, state, news, clock } = makeManifests({ deny: ['batch'] })
  news()
  const judgedAtMs = (): number | undefined => manifests.verdicts[0]?.judgedAtMs
  t.equal(judgedAtMs(), 1000)
  t.match(manifests.of(orders), { kind: 'local-only', warning: /port 8080 past deny\[0\]/ })
  t.equal(manifests.manifests.length, 1)
  const { changes } = state
  await clock.advance(2000)
  t.equal(state.changes, changes, 'nothing new, nobody told')
  state.open = new Map([[8080, ['::']]])
  await clock.advance(2000)
  t.equal(manifests.of(orders).kind, 'unprotected')
  t.equal(manifests.manifests.length, 0)
  const openedAtMs = clock.now()
  t.equal(judgedAtMs(), openedAtMs, 'that is when the verdict changed')
  await clock.advance(1000)
  news()
  t.equal(judgedAtMs(), openedAtMs, 'other news leave it')
  state.isLocked = true
  manifests.refresh()
  t.equal(manifests.of(orders).kind, 'locked')
  t.equal(manifests.manifests.length, 1)
  t.equal(judgedAtMs(), clock.now())
  t.equal(state.changes, changes + 4)
})

t.test('a service that is open to the mesh, or only audited, is nobody’s business', async (t) => {
  for (const more of [
    {},
    { allow: ['web'], policyMode: 'audit' },
    { defaultPolicy: 'allow-all' },
  ]) {
    const { manifests, state, news } = makeManifests(more)
    state.open = new Map([[8080, ['0.0.0.0']]])
    news()
    t.equal(manifests.of(orders).kind, 'not-needed')
    t.equal(manifests.manifests.length, 1)
  }
})

t.test('a policy file makes a service strict as a manifest does', async (t) => {
  const { manifests, state, news } = makeManifests({})
  state.open = new Map([[8080, ['0.0.0.0']]])
  state.policies = [policyOf({ services: ['*'], deny: [{ paths: ['/admin'] }] })]
  news()
  t.match(manifests.verdicts, [{ problems: [{ file: '/p.json', rule: 'unprotected' }] }])
  t.equal(manifests.policyOf(orders).strict, true)
  t.equal(manifests.known.length, 1)
})
