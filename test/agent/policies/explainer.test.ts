import t from 'tap'
import { Explainer } from '#agent/policies/explainer.ts'
import type { Policy } from '#shared/model/policy.ts'
import { servicePolicyOf } from '#shared/policy/service-policy.ts'
import { policyOf } from '#test/support/policies.ts'
import { self, snapshotOf, trustDomain } from '#test/support/snapshots.ts'

function explainerOf(...policies: readonly Policy[]): Explainer {
  const { local } = snapshotOf([
    { service: 'orders', host: self },
    { service: 'db', host: self, protocol: 'tcp' },
  ])
  return new Explainer({
    trustDomain: () => trustDomain,
    local: () => local,
    policyOf: (service) => servicePolicyOf(service, policies),
    hostsOf: (service) => (service === 'files' ? ['beta', 'gamma'] : []),
    isHost: (name) => ['beta', 'files', 'orders'].includes(name),
  })
}

const ask = (explainer: Explainer, query: string) => explainer.answer(new URLSearchParams(query))

t.test('Explainer names the rule that decides, and what each rule says', async (t) => {
  const explainer = explainerOf(
    policyOf({
      services: ['*'],
      allow: [{ from: ['web'] }, { paths: ['/healthz'], methods: ['GET'] }],
      deny: [{ name: 'no-admin', paths: ['/admin/*'] }],
    }),
  )
  t.match(ask(explainer, 'source=web&service=orders&method=GET&path=/Admin/'), {
    kind: 'explained',
    source: 'spiffe://mesh.internal/service/web',
    destination: 'spiffe://mesh.internal/service/orders',
    verdict: 'denied',
    reason: 'policy-denied',
    ref: { rule: 'no-admin', file: '/p.json' },
    rules: [
      { effect: 'deny', mode: 'enforce', ref: { rule: 'no-admin' }, outcome: 'fits' },
      { effect: 'allow', outcome: 'fits' },
      { effect: 'allow', outcome: 'misses', why: /paths/ },
    ],
  })
  t.match(ask(explainer, 'source=web&service=orders&method=GET&path=/a'), {
    verdict: 'permitted',
    ref: { rule: 'allow[0]' },
    path: '/a',
  })
  t.match(ask(explainer, 'source=host/h1&service=orders&method=GET&path=/a'), {
    verdict: 'denied',
    ref: { rule: 'default deny' },
    rules: [{}, { outcome: 'misses', why: /from/ }, { outcome: 'misses' }],
  })
  t.match(ask(explainer, 'source=-&service=orders&method=GET&path=/healthz'), {
    verdict: 'permitted',
    source: '',
  })
  t.match(ask(explainer, 'source=web&service=orders&method=GET&path=/x/../admin'), {
    verdict: 'denied',
    reason: 'ambiguous-request',
    rules: [{ outcome: 'ambiguous', why: /dot segment/ }, {}, {}],
  })
  t.match(ask(explainer, 'source=web&service=orders'), { verdict: 'depends' })
  t.match(ask(explainer, 'source=web&service=db&method=GET&path=/a'), {
    protocol: 'tcp',
    verdict: 'denied',
    rules: [{ outcome: 'fits', why: /raw bytes/ }, {}, { outcome: 'misses' }],
  })
})

t.test('Explainer tells what audit mode would say', async (t) => {
  const explainer = explainerOf(
    policyOf({ services: ['*'], policyMode: 'audit', deny: [{ headers: { 'x-a': ['1'] } }] }),
  )
  t.match(ask(explainer, 'source=web&service=orders&method=GET&path=/&header=X-A=1'), {
    verdict: 'permitted',
    audit: /^deny\[0\]/,
    rules: [{ mode: 'audit', outcome: 'fits' }],
  })
})

t.test(
  'Explainer sends questions about other hosts’ services there, and refuses bad ones',
  async (t) => {
    const explainer = explainerOf()
    t.match(ask(explainer, 'source=web&service=files'), {
      kind: 'elsewhere',
      hosts: ['beta', 'gamma'],
    })
    for (const query of [
      '',
      'source=web',
      'source=web*&service=orders',
      'source=Web&service=orders',
      'source=web&service=Orders',
      'source=web&service=orders&method=GET&header=x',
    ])
      t.match(ask(explainer, query), { kind: 'bad-question', problem: /./ }, query)
  },
)

t.test('Explainer says when a name it read as a service is a host’s', async (t) => {
  const doubtOf = (source: string): string => {
    const answer = ask(explainerOf(), `source=${source}&service=orders&method=GET&path=/`)
    if (answer.kind !== 'explained') throw new Error(JSON.stringify(answer))
    return answer.doubt
  }
  t.match(doubtOf('beta'), /"beta" was read as service\/beta, .* is host\/beta$/)
  for (const source of ['host/beta', 'files', 'orders', 'web', '-']) t.equal(doubtOf(source), '')
})
