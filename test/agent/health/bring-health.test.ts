import t from 'tap'
import { bringHealth } from '#agent/health/bring-health.ts'
import type { HealthBoard } from '#agent/health/health-board.ts'

t.test('bringHealth hands good results to the board, and refuses the rest', async (t) => {
  const brought: unknown[] = []
  const board: Pick<HealthBoard, 'bring'> = {
    bring: (...words) => {
      brought.push(words)
      return { kind: 'taken', check: 'push' }
    },
  }
  const good = { service: 'orders', outcome: 'warn', detail: 'x'.repeat(1000) }
  t.match(bringHealth(board, good), { kind: 'done', value: { service: 'orders', check: 'push' } })
  t.strictSame(brought, [['orders', null, { outcome: 'warn', detail: 'x'.repeat(256) }]])
  for (const bad of [
    null,
    [],
    'x',
    {},
    { ...good, service: '../x' },
    { ...good, outcome: 'PASS' },
    { ...good, check: 5 },
    { ...good, detail: {} },
    { ...good, outcome: '__proto__' },
  ]) {
    t.match(bringHealth(board, bad), { kind: 'refused', code: 'bad-input' })
  }
  t.equal(brought.length, 1)
})
