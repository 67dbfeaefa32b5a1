/** The brief form of the soak of hosts: few clients, deadlines three times as long. */

import t from 'tap'
import { needs } from '#test/support/needs.ts'
import { hosts } from './events/hosts.ts'

// Programs start here; on a busy machine each takes seconds.
t.setTimeout(600_000)

t.test('hosts are lost and services drained, and callers elsewhere go on', async (t) => {
  if (!needs(t, 'netns')) return
  await hosts({
    size: 'brief',
    say: (line) => t.comment(line),
    onRow: ({ name, metric, ours, goal, ok }) => {
      t.ok(ok, `${name}: ${metric}: ${ours} of ${goal}`)
    },
  })
})
