/** The brief form of the soak of identity: seconds instead of minutes, deadlines three times as long. */

import t from 'tap'
import { identity } from './events/identity.ts'

// Programs start here; on a busy machine each takes seconds.
t.setTimeout(600_000)

t.test('certificates, the root and a host go, and nobody else notices', async (t) => {
  await identity({
    size: 'brief',
    say: (line) => t.comment(line),
    onRow: ({ name, metric, ours, goal, ok }) => {
      t.ok(ok, `${name}: ${metric}: ${ours} of ${goal}`)
    },
  })
})
