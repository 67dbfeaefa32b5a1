import t from 'tap'
import { must, parsePortName } from '#shared/model/names.ts'
import { agentReports, manifest, now, type Bent } from '#test/support/agent-reports.ts'

t.test('OwnServiceReport tells why other hosts are not told of an instance', async (t) => {
  const away = { kind: 'away', since: 0, reason: 'lease lost' } as const
  const withheld = (why: 'not-healthy' | 'no-certificate' | null): Bent => ({
    registrar: {
      offer: { presence: null, offered: [], local: [] },
      offeredOf: () => null,
      withheld: () => why,
      rotation: () => 'in',
      openTo: () => null,
    },
  })
  const cases: readonly (readonly [RegExp, Bent])[] = [
    [/its health check/, withheld('not-healthy')],
    [/no certificate/, withheld('no-certificate')],
    [/not offered yet/, withheld(null)],
    [/has not enrolled/, { isAlone: true }],
    [/store is away: lease lost/, { link: { state: away } }],
    [
      /store refuses it: not yours/,
      { link: { publication: () => ({ kind: 'refused', problem: 'not yours' }) } },
    ],
    [/on its way/, { link: { publication: () => ({ kind: 'pending' }) } }],
  ]
  for (const [expected, bent] of cases) {
    const { own } = agentReports(bent)
    const { published } = own.receiptFacts(manifest)
    t.equal(published?.ok, false)
    t.match(published?.detail, expected)
    t.match(own.manifests(), [{ published: false }])
  }
})

t.test('OwnServiceReport gives the same facts again while nothing of them changes', async (t) => {
  let revision = 12
  const { own } = agentReports({ link: { publication: () => ({ kind: 'stored', revision }) } })
  const facts = own.receiptFacts(manifest)
  t.equal(facts.published?.revision, 12)
  t.equal(own.receiptFacts(manifest), facts)
  revision = 13
  t.equal(own.receiptFacts(manifest).published?.revision, 13)
})

t.test(
  'OwnServiceReport names the ports whose checks fail, and since when all is so',
  async (t) => {
    const portName = must(parsePortName('admin'))
    const at = { portName, detail: 'ECONNREFUSED' }
    const checks = [
      { name: 'tcp', state: 'passing', detail: 'connection opened' },
      { name: 'a', state: 'failing', ...at },
      { name: 'b', state: 'passing', ...at },
    ] as const
    const status = { state: 'passing', detail: '', checks } as const
    const health = { statusOf: () => status, sinceMs: () => now - 7, changes: [] }
    const { own } = agentReports({ health })
    t.match(own.manifests(), [{ healthSinceMs: now - 7, portsDown: ['admin: ECONNREFUSED'] }])
  },
)

t.test('OwnServiceReport tells in reports, too, what receipts warn of', async (t) => {
  const { own } = agentReports({
    detector: { findingOf: () => ({ speech: 'silent' }), mismatchOf: () => '' },
  })
  const warnings = [/^port 8080: it takes connections and says nothing/]
  t.match(own.manifests(), [{ warnings }])
  t.match(own.receiptFacts(manifest).warnings, warnings)
  t.same(agentReports().own.manifests()[0]?.warnings, [])
})
