import t from 'tap'
import {
  phasesOf,
  type GenerationFacts,
  type SteeredWorker,
} from '#agent/workers/generation-rules.ts'
import type { WorkerPhase } from '#agent/workers/messages.ts'

const port = { name: 'orders', address: '127.0.0.1', port: 9001, problem: '' }
const shut = { ...port, problem: 'in use' }

function worker(
  generation: number,
  phase: WorkerPhase | null,
  more: Partial<SteeredWorker> = {},
): SteeredWorker {
  const listening =
    phase === 'live' ? { tunnelPort: 15_008, listeners: [port] } : { tunnelPort: 0, listeners: [] }
  return { generation, index: 0, phase, isReady: true, listening, ...more }
}

function phases(
  workers: readonly SteeredWorker[],
  facts: Partial<GenerationFacts> = {},
): readonly string[] {
  const told = phasesOf(workers, { wanted: 1, leadsTo: () => true, allAreBack: true, ...facts })
  return workers.map((one) => `${one.generation} ${told.get(one)}`)
}

t.test('phasesOf lets the first workers there are go live at once, ready or not', async (t) => {
  const first = [worker(1, null, { isReady: false }), worker(1, null, { index: 1 })]
  t.same(phases(first, { wanted: 4 }), ['1 live', '1 live'])
  t.same(phases([worker(7, null)]), ['7 live'], 'whatever their number')
})

t.test('phasesOf lets a newer generation stand by until all of it is ready', async (t) => {
  const old = worker(1, 'live')
  t.same(phases([old, worker(2, null, { isReady: false })]), ['1 live', '2 standby'])
  t.same(phases([old, worker(2, 'standby')], { wanted: 2 }), ['1 live', '2 standby'])
  const both = [worker(2, 'standby'), worker(2, 'standby', { index: 1 })]
  t.same(phases([old, ...both], { wanted: 2 }), ['1 live', '2 live', '2 live'])
})

t.test('phasesOf retires the older one once everything leads to the newer', async (t) => {
  const old = worker(1, 'live')
  const opening = worker(2, 'live', { listening: { tunnelPort: 0, listeners: [] } })
  t.same(phases([old, opening]), ['1 live', '2 live'])
  t.same(phases([old, worker(2, 'live')], { leadsTo: () => false }), ['1 live', '2 live'])
  t.same(phases([old, worker(2, 'live')]), ['1 retiring', '2 live'])
  const lacking = worker(2, 'live', { listening: { tunnelPort: 1, listeners: [shut] } })
  t.same(phases([old, lacking]), ['1 live', '2 live'], 'it lacks a port the older one holds')
  const neither = worker(1, 'live', { listening: { tunnelPort: 1, listeners: [shut] } })
  t.same(phases([neither, lacking]), ['1 retiring', '2 live'], 'nobody holds it')
})

t.test('phasesOf never sends a retiring worker back, nor an old one forth', async (t) => {
  t.same(phases([worker(1, 'retiring'), worker(2, 'live')]), ['1 retiring', '2 live'])
  t.same(phases([worker(1, null), worker(2, 'live')]), ['1 retiring', '2 live'], 'started again')
  t.same(phases([worker(1, 'retiring')]), ['1 retiring'])
})

t.test('phasesOf goes back to the older generation while it still can', async (t) => {
  // The newer one went live and fell over before it had opened its ports.
  t.same(phases([worker(1, 'live'), worker(2, null, { isReady: false })]), ['1 live', '2 standby'])
  t.same(phases([worker(1, 'live')]), ['1 live'])
})

t.test('phasesOf waits for workers that may yet come back to a new control process', async (t) => {
  const waiting = worker(2, 'standby')
  t.same(phases([waiting], { allAreBack: false }), ['2 standby'])
  t.same(phases([waiting, worker(1, 'live')], { allAreBack: false }), ['2 live', '1 live'])
  t.same(phases([waiting]), ['2 live'])
})

t.test('phasesOf lets three generations live, and a fourth wait', async (t) => {
  const all = [worker(1, 'retiring'), worker(2, 'retiring'), worker(3, 'live')]
  t.same(phases([...all, worker(4, 'standby')]).at(-1), '4 standby')
  t.same(phases([...all.slice(1), worker(4, 'standby')]).at(-1), '4 live')
})
