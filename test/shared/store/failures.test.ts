/** What a store's refusals mean to who asked. */

import t from 'tap'
import { storeError } from '#shared/store/failures.ts'
import { WireError } from '#shared/store/wire.ts'

const unavailable = 14
const exhausted = 8

t.test('a store that has too much to do is late, not gone', async (t) => {
  const words = [
    [unavailable, 'etcdserver: request timed out, waiting for the applied index took too long'],
    [exhausted, 'etcdserver: too many requests'],
  ] as const
  for (const [status, message] of words) {
    t.match(storeError('get a', new WireError(status, message)), { code: 'store-timeout' }, message)
  }
})

t.test('a store that has lost its leader is gone, until it has another', async (t) => {
  const words = [
    'etcdserver: request timed out, possibly due to previous leader failure',
    'etcdserver: request timed out, possibly due to connection lost',
    'etcdserver: no leader',
  ]
  for (const message of words) {
    const error = storeError('get a', new WireError(unavailable, message))
    t.match(error, { code: 'store-unavailable', retry: true }, message)
  }
})
