import t from 'tap'
import { freePortRange } from '#agent/kernel/local-ports.ts'

t.test('freePortRange reads this machine', (t) => {
  const range = freePortRange()
  t.ok(range !== null && range.first <= range.last)
  t.end()
})

t.test('freePortRange is the longest stretch without a reserved port', (t) => {
  const range = (ports: string, reserved: string): unknown =>
    freePortRange((file) => (file.endsWith('range') ? ports : reserved))
  const cases = [
    ['', { first: 100, last: 199 }],
    ['\n', { first: 100, last: 199 }],
    ['50,300-400\n', { first: 100, last: 199 }],
    ['150\n', { first: 100, last: 149 }],
    ['149\n', { first: 150, last: 199 }],
    ['90-119,130-150,195-300\n', { first: 151, last: 194 }],
    ['90-300\n', null],
  ] as const
  for (const [reserved, expected] of cases) {
    t.same(range('100\t199\n', reserved), expected, JSON.stringify(reserved))
  }
  t.equal(range('', ''), null, 'it cannot be read')
  t.end()
})
