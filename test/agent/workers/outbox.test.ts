import t from 'tap'
import { Outbox } from '#agent/workers/outbox.ts'

function makeOutbox() {
  const sent: string[] = []
  const sink = { backlog: 0, sendText: (line: string) => void sent.push(line) }
  return { sink, sent, outbox: new Outbox<'trust' | 'snapshot'>({ sink }) }
}

t.test('Outbox sends at once to who reads', async (t) => {
  const { sent, outbox } = makeOutbox()
  outbox.put('trust', () => 'a')
  outbox.put('snapshot', () => 'b')
  t.same(sent, ['a', 'b'])
})

t.test('Outbox keeps only the newest of each kind for who does not, in order', async (t) => {
  const { sink, sent, outbox } = makeOutbox()
  outbox.put('snapshot', () => '0')
  sink.backlog = 1
  for (let i = 1; i <= 1000; i++) outbox.put('snapshot', () => `${i}`)
  outbox.put('trust', () => 'a')
  t.same(sent, ['0'])
  sink.backlog = 0
  outbox.put('snapshot', () => 'last')
  t.same(sent, ['0'], 'nothing overtakes what waits')
  outbox.drained()
  t.same(sent, ['0', 'last', 'a'])
  outbox.drained()
  outbox.put('trust', () => 'b')
  t.same(sent, ['0', 'last', 'a', 'b'])
})
