/** What `npm run fleet` shows with four machines, with two. */

import t from 'tap'
import { lacks } from '#test/support/needs.ts'
import { fleetStory } from './story.ts'

// Machines boot and packages are made here.
t.setTimeout(2_700_000)

t.test(
  'two machines go from nothing to a mesh, to its next version under load, and back',
  { skip: lacks('machines', 'ansible-playbook') || false },
  (t) =>
    fleetStory(t, {
      size: 'brief',
      onRow: ({ metric, ours, ok }) => t.ok(ok, `${metric}: ${ours}`),
    }),
)
