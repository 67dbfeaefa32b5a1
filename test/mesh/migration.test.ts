/** The move from the embedded store to an etcd with access control, under load and by meshctl alone. */

import { join } from 'node:path'
import t from 'tap'
import { MeshWorld } from '#test/support/mesh-world.ts'
import { noEtcd, TestEtcd } from '#test/support/etcd.ts'
import { underLoad } from '#test/support/under-load.ts'

t.setTimeout(400_000)

t.test(
  'a mesh moves to an etcd that knows everybody, and no request notices',
  { skip: noEtcd ?? false },
  async (t) => {
    const mesh = await MeshWorld.raise(t)
    const { world, alpha, beta } = mesh
    for (const host of [alpha, beta]) {
      mesh.serve(host, 'http', 'orders', 8080)
      host.dropManifest('orders', { port: 8080, address: host.place.local })
      host.dropManifest('web', { upstreams: { orders: 9001 } })
    }
    for (const host of [alpha, beta]) await mesh.sees(host, 'orders', ['alpha', 'beta'])
    const tls = join(world.directory, 'etcd-tls')
    const etcd = await TestEtcd.prepare(join(world.directory, 'etcd'), [
      '--client-cert-auth',
      `--trusted-ca-file=${tls}/ca.pem`,
      `--cert-file=${tls}/server.pem`,
      `--key-file=${tls}/server.key`,
    ])
    t.teardown(() => etcd.kill())
    const meshctl = async (...words: readonly string[]): Promise<string> => {
      const { ok, output } = await world.meshctl(...words)
      t.ok(ok, `${words.join(' ')}: ${output}`)
      return output
    }
    const targets = [alpha, beta].map((host) => ({ host: host.place.local, port: 9001 }))
    await underLoad(t, {
      mesh,
      targets,
      happens: async (more) => {
        await meshctl('store', 'certificate', 'e1', '127.0.0.1', '--out', tls)
        await etcd.start()
        await meshctl('store', 'migrate', '--to', etcd.url)
        await more('alpha')
        const token = await world.meshctl('token', 'create', 'gamma', '--service', '*')
        t.match(token, { ok: false, output: /the store has moved/ })
        await world.endController('SIGTERM')
        await more('beta')
        await world.startController({ store: etcd.url })
        for (const host of world.hosts) {
          await mesh.until(`${host.name} has come over`, async () => {
            const { store, snapshot } = await host.admin.ask('status')
            return store.kind === 'up' && snapshot.instances === 2
          })
        }
        await more('alpha')
        await more('beta')
      },
    })
    mesh.serve(beta, 'http', 'late', 8081)
    beta.dropManifest('late', { port: 8081, address: beta.place.local })
    await mesh.sees(alpha, 'late', ['beta'])
    t.match(await meshctl('store', 'status'), /^writable +yes$/m)
    t.match(await meshctl('cert', 'list'), /service\/late +beta /)
  },
)
