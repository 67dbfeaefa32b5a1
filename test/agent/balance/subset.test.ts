import t from 'tap'
import { mostHosts, subsetOf } from '#agent/balance/subset.ts'

const hosts = Array.from({ length: 100 }, (_, i) => `host-${i}`)
const chosen = (caller: string, all: readonly string[] = hosts): ReadonlySet<string> =>
  subsetOf(caller, 'orders', all) ?? new Set(all)

t.test('subsetOf leaves a small service whole', async (t) => {
  t.equal(subsetOf('a', 'orders', hosts.slice(0, mostHosts)), null)
  t.equal(chosen('a').size, mostHosts)
})

t.test('subsetOf depends on the names alone', async (t) => {
  t.same(chosen('a', hosts.toReversed()), chosen('a'))
  t.notSame(chosen('b'), chosen('a'))
  t.notSame(subsetOf('a', 'files', hosts), chosen('a'))
})

t.test('subsetOf changes one place at most when a host comes or goes', async (t) => {
  const before = chosen('a')
  for (const gone of hosts) {
    const after = chosen(
      'a',
      hosts.filter((host) => host !== gone),
    )
    const kept = [...before].filter((host) => after.has(host)).length
    t.equal(kept, before.has(gone) ? mostHosts - 1 : mostHosts, gone)
  }
})

t.test('subsetOf spreads many callers over all hosts', async (t) => {
  const counts = new Map(hosts.map((host) => [host, 0]))
  const callers = 500
  for (let i = 0; i < callers; i++) {
    for (const host of chosen(`caller-${i}`)) counts.set(host, (counts.get(host) ?? 0) + 1)
  }
  const even = (callers * mostHosts) / hosts.length
  for (const [host, count] of counts) {
    t.ok(count > even / 2 && count < even * 1.5, `${host} has ${count} callers of ${even}`)
  }
})
