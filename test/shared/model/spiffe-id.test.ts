import t from 'tap'
import { parseSpiffeId, splitSpiffeId } from '#shared/model/spiffe-id.ts'

t.test('parseSpiffeId takes the canonical spelling of every kind', (t) => {
  for (const kind of ['service', 'host', 'operator', 'controller']) {
    const text = `spiffe://mesh.internal/${kind}/a-1`
    t.same(parseSpiffeId(text), { ok: true, value: text })
    t.match(splitSpiffeId(text), { ok: true, value: { kind, name: 'a-1' } })
  }
  t.end()
})

t.test('parseSpiffeId refuses every other spelling', (t) => {
  const spellings = [
    '',
    'spiffe://mesh.internal',
    'spiffe://mesh.internal/service/',
    'spiffe://mesh.internal/service/a/',
    'spiffe://mesh.internal/service/a/b',
    'spiffe://mesh.internal//service/a',
    'spiffe://Mesh.internal/service/a',
    'SPIFFE://mesh.internal/service/a',
    'spiffe://mesh.internal/service/A',
    'spiffe://mesh.internal/service/%61',
    'spiffe://mesh.internal/service/..',
    'spiffe://mesh.internal/service/.',
    'spiffe://mesh.internal/workload/a',
    'spiffe://mesh.internal:443/service/a',
    'spiffe://user@mesh.internal/service/a',
    'spiffe://mesh.internal/service/a?x',
    'spiffe://mesh.internal/service/a#x',
    'spiffe://mesh.internal/service/a\n',
    'spiffe://mesh.internal/service/a\0',
    ' spiffe://mesh.internal/service/a',
    'https://mesh.internal/service/a',
    `spiffe://mesh.internal/service/${'a'.repeat(64)}`,
  ]
  for (const text of spellings) t.notOk(parseSpiffeId(text).ok, JSON.stringify(text))
  t.end()
})
