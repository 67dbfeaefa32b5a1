import t from 'tap'
import { must, parseHostName, parseInstanceId, parseServiceName } from '#shared/model/names.ts'
import {
  controllerPrefix,
  hostKey,
  instanceKey,
  meshPrefix,
  parseMeshKey,
  presenceKey,
  tokenKey,
} from '#shared/store/keys.ts'

const host = must(parseHostName('a'))
const service = must(parseServiceName('orders'))
const id = must(parseInstanceId('1'))

t.test('parseMeshKey reads every key that is built', async (t) => {
  t.equal(instanceKey(service, host, id), '/mesh/v1/instances/orders/a/1')
  t.strictSame(parseMeshKey(instanceKey(service, host, id)), {
    ok: true,
    value: { kind: 'instance', service, host, id },
  })
  t.strictSame(parseMeshKey(presenceKey(host)), { ok: true, value: { kind: 'presence', host } })
  t.strictSame(parseMeshKey(hostKey(host)), { ok: true, value: { kind: 'host', host } })
})

t.test('parseMeshKey leaves keys of other versions alone', async (t) => {
  for (const key of ['routes/x', '', 'instancesX/a/b/c']) {
    t.strictSame(parseMeshKey(meshPrefix + key), { ok: true, value: { kind: 'unknown' } })
  }
})

t.test('parseMeshKey refuses misshapen keys and bad names, and quotes the key', async (t) => {
  for (const key of [
    '/mesh/v2/presence/a',
    '/mesh-controller/v1/tokens/x',
    '/mesh/v1/presence',
    '/mesh/v1/presence/',
    '/mesh/v1/presence/A',
    '/mesh/v1/presence/a/b',
    '/mesh/v1/hosts/..',
    '/mesh/v1/instances/orders/a',
    '/mesh/v1/instances/orders/a/1/2',
    '/mesh/v1/instances//a/1',
    '/mesh/v1/instances/orders/a/1\n',
    '/mesh/v1/instances/ord ers/a/1',
  ]) {
    const parsed = parseMeshKey(key)
    t.notOk(parsed.ok, key)
    t.ok(!parsed.ok && parsed.problem.includes(JSON.stringify(key)))
  }
})

t.test('what only controllers read is outside what hosts read', async (t) => {
  t.notOk(controllerPrefix.startsWith(meshPrefix))
  t.ok(tokenKey('x').startsWith(controllerPrefix))
})
