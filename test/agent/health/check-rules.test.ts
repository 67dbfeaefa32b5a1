import t from 'tap'
import { afterCheck, unchecked, type HealthStatus } from '#agent/health/check-rules.ts'

/** Plays results ('+' passes, '-' fails) and writes down the state after each. */
function play(results: string, rules: { rise: number; fall: number }): string {
  let status: HealthStatus = unchecked
  const states: string[] = []
  for (const result of results) {
    status = afterCheck(status, { pass: result === '+', detail: result }, rules)
    states.push({ starting: 's', passing: 'P', failing: 'F' }[status.state])
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
  ]
  for (const [results, rise, fall, states] of cases) {
    t.equal(play(results, { rise, fall }), states, `${results} with rise ${rise}, fall ${fall}`)
  }
})

t.test('the detail is always that of the last check', async (t) => {
  const rules = { rise: 1, fall: 2 }
  const up = afterCheck(unchecked, { pass: true, detail: 'status 200' }, rules)
  t.match(up, { state: 'passing', detail: 'status 200' })
  t.match(afterCheck(up, { pass: false, detail: 'ECONNREFUSED' }, rules), {
    state: 'passing',
    detail: 'ECONNREFUSED',
    streak: 1,
  })
})
