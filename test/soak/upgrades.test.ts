/** The brief form of the soak of upgrades: five of each, with deadlines three times as long. */

import t from 'tap'
import { upgrades } from './events/upgrades.ts'

// Programs start here; on a busy machine each takes seconds.
t.setTimeout(900_000)

t.test('an agent is restarted and upgraded, and nobody notices', async (t) => {
  await upgrades({
    size: 'brief',
    say: (line) => t.comment(line),
    onRow: ({ name, metric, ours, goal, ok }) => {
      t.ok(ok, `${name}: ${metric}: ${ours} of ${goal}`)
    },
  })
})
