import t from 'tap'
import { systemClock as clock, systemRandom as random } from '#shared/lifecycle/clock.ts'
import { connectWords } from '#shared/lifecycle/connect-words.ts'
import { ControllerClient } from '#shared/rpc/controller-client.ts'
import { openEtcd } from '#shared/store/etcd.ts'

t.test('connectWords keeps what the socket said, and any other text as it is', async (t) => {
  const framed = 'No connection established. Last error: '
  t.same(
    [
      `${framed}Error: connect ECONNREFUSED 127.0.0.1:1. Resolution note: `,
      `round_robin: ${framed}connect EHOSTUNREACH`,
      `${framed}null. Resolution note: no such name`,
      'the disk is full. Resolution note: ',
    ].map(connectWords),
    [
      'connect ECONNREFUSED 127.0.0.1:1',
      'connect EHOSTUNREACH',
      'no connection established (no such name)',
      'the disk is full. Resolution note: ',
    ],
  )
})

t.test('a store and a controller that are away are said in the socket’s words', async (t) => {
  // Nobody listens on port 1 of loopback.
  const store = openEtcd({ clock, random }, { endpoints: ['http://127.0.0.1:1'] })
  t.teardown(() => store.close())
  await t.rejects(store.get('/a'), { message: /^store: .*: connect ECONNREFUSED 127\.0\.0\.1:1$/ })
  const client = new ControllerClient(
    { clock, credential: { bundlePem: '' }, expected: { kind: 'first-controller' } },
    { address: '127.0.0.1:1' },
  )
  t.teardown(() => client.close())
  await t.rejects(client.call('Certificates', 'DescribeMesh', {}), {
    message: 'controller 127.0.0.1:1: connect ECONNREFUSED 127.0.0.1:1',
  })
})
