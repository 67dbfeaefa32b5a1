import t from 'tap'
import {
  afterCheck,
  together,
  unchecked,
  type HealthState,
  type HealthStatus,
} from '#agent/health/check-rules.ts'
import type { CheckOutcome } from '#shared/model/health-check.ts'

const letters = { starting: 's', passing: 'P', warning: 'W', failing: 'F' } as const
const outcomes: Readonly<Record<string, CheckOutcome>> = { '+': 'pass', '~': 'warn', '-': 'fail' }
const fresh = unchecked({ initial: 'failing' })

/** Plays results ('+' passes, '~' warns, '-' fails) and writes down the state after each. */
function play(results: string, rules: { rise: number; fall: number }, from = fresh): string {
  let status: HealthStatus = from
  const states: string[] = []
  for (const result of results) {
    const outcome = outcomes[result] ?? 'fail'
    status = afterCheck(status, { outcome, detail: result }, rules)
    states.push(letters[status.state])
  }
  return states.join('')
}

t.test('an instance rises and falls by results in a row', async (t) => {
  const cases: readonly (readonly [string, number, number, string])[] = [
    ['+', 1, 2, 'P'],
    ['--', 1, 2, 'sF'],
    ['+-+--+', 1, 2, 'PPPPFP'],
    ['++-', 3, 1, 'ssF'],
    ['-+-+-+--', 2, 2, 'sssssssF'],
    ['+++--+--+++', 3, 3, 'ssPPPPPPPPP'],
    ['---+-++', 2, 3, 'ssFFFFP'],
    ['+--+--+---', 1, 3, 'PPPPPPPPPF'],
    ['~', 1, 2, 'W'],
    ['+~+~~+', 1, 2, 'PPPPWP'],
    ['--+~', 2, 2, 'sFFW'],
    ['--~+', 2, 2, 'sFFP'],
    ['~~~--~', 1, 2, 'WWWWFW'],
    ['++~-~-', 1, 2, 'PPPFWW'],
    ['+-~-~', 1, 2, 'PPWWW'],
    ['+-~+-~-', 1, 3, 'PPPPPPF'],
    ['+-~~', 1, 3, 'PPPW'],
  ]
  for (const [results, rise, fall, states] of cases) {
    t.equal(play(results, { rise, fall }), states, `${results} with rise ${rise}, fall ${fall}`)
  }
})

t.test('an instance that counts as passing at first falls like any other', async (t) => {
  const passing = unchecked({ initial: 'passing' })
  t.equal(passing.state, 'passing')
  t.equal(play('---', { rise: 1, fall: 2 }, passing), 'PFF')
})

t.test('the detail is always that of the last check', async (t) => {
  const rules = { rise: 1, fall: 2 }
  const up = afterCheck(fresh, { outcome: 'pass', detail: 'status 200' }, rules)
  t.match(up, { state: 'passing', detail: 'status 200' })
  t.match(afterCheck(up, { outcome: 'fail', detail: 'ECONNREFUSED' }, rules), {
    state: 'passing',
    detail: 'ECONNREFUSED',
    streak: 1,
  })
})

t.test('of several checks the worst decides, and is named', async (t) => {
  const all = (...states: readonly HealthState[]) =>
    together(states.map((state, index) => ({ name: `c${index}`, state, detail: `d${index}` })))
  t.match(all('passing'), { state: 'passing', detail: 'd0' })
  t.match(all('passing', 'warning', 'passing'), { state: 'warning', detail: 'c1: d1' })
  t.match(all('warning', 'starting'), { state: 'starting', detail: 'c1: d1' })
  t.match(all('starting', 'failing', 'warning'), { state: 'failing', detail: 'c1: d1' })
})
