/** The brief form of the soak of the store: few clients, short absences, deadlines three times as long. */

import t from 'tap'
import { needs } from '#test/support/needs.ts'
import { store } from './events/store.ts'

// Programs start here; on a busy machine each takes seconds.
t.setTimeout(1_200_000)

t.test('a real etcd loses nodes, cables and its memory, and nobody notices', async (t) => {
  if (!needs(t, 'netns', 'nft', 'etcd', 'etcdctl', 'setpriv')) return
  await store({
    size: 'brief',
    say: (line) => t.comment(line),
    onRow: ({ name, metric, ours, goal, ok }) => {
      t.ok(ok, `${name}: ${metric}: ${ours} of ${goal}`)
    },
  })
})
