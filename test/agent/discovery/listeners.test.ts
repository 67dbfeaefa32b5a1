import t from 'tap'
import { listenersOf } from '#agent/discovery/listeners.ts'
import { manifestOf } from '#test/support/manifests.ts'

t.test('every upstream is a listener, by port', async (t) => {
  const web = manifestOf({ upstreams: { orders: 9002, users: 9001 } }, 'web')
  t.strictSame(listenersOf([web, manifestOf({ port: 8080 })]), [
    { service: 'users', port: 9001, file: '/etc/mesh.d/web.json' },
    { service: 'orders', port: 9002, file: '/etc/mesh.d/web.json' },
  ])
})
