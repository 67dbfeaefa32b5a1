import t from 'tap'
import { needs } from '#test/support/needs.ts'
import { runDemo } from '#test/support/run-demo.ts'

t.test(
  'the demo holds on two hosts in namespaces with a real etcd, and leaves no trace',
  async (t) => {
    if (!needs(t, 'netns', 'etcd')) return
    const { code, out, story, leftovers } = await runDemo({ words: ['--store', 'etcd'] })
    t.equal(code, 0, story)
    t.match(JSON.parse(out), {
      ok: true,
      failed: 0,
      hosts: 2,
      mtls: true,
      peerIds: ['spiffe://mesh.internal/host/alpha', 'spiffe://mesh.internal/service/orders'],
      killedInstance: true,
      rotated: true,
      store: 'etcd',
      mode: 'namespaces',
    })
    t.same(leftovers, [])
  },
)
