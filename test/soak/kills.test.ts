/** The brief form of the soak of kills: five of each, with deadlines three times as long. */

import t from 'tap'
import { kills } from './events/kills.ts'

// Programs start here; on a busy machine each takes seconds.
t.setTimeout(600_000)

t.test('what is killed costs its own connections alone', async (t) => {
  await kills({
    size: 'brief',
    say: (line) => t.comment(line),
    onRow: ({ name, metric, ours, goal, ok }) => {
      t.ok(ok, `${name}: ${metric}: ${ours} of ${goal}`)
    },
  })
})
