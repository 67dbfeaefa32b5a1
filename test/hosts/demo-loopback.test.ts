import t from 'tap'
import { lacks, needs } from '#test/support/needs.ts'
import { runDemo } from '#test/support/run-demo.ts'

/** Somebody without rights. */
const nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups']

t.test('the demo holds without root on loopback addresses, and leaves no trace', async (t) => {
  const isRoot = lacks('root') === ''
  if (isRoot && !needs(t, 'setpriv')) return
  const { code, out, story, leftovers } = await runDemo({
    words: [],
    under: isRoot ? nobody : [],
  })
  t.equal(code, 0, story)
  t.match(JSON.parse(out), {
    ok: true,
    failed: 0,
    mtls: true,
    killedInstance: true,
    rotated: true,
    store: 'embedded',
    mode: 'loopback',
  })
  t.same(leftovers, [])
})
