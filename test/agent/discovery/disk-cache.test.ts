import { readFileSync, statSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { DiskCache } from '#agent/discovery/disk-cache.ts'
import { must, parseHostName, parseServiceName, parseTrustDomain } from '#shared/model/names.ts'
import { testDirectory } from '#test/support/test-directory.ts'

const settings = {
  host: must(parseHostName('a')),
  trustDomain: must(parseTrustDomain('mesh.internal')),
}
const view = {
  revision: 7,
  savedAtMs: 1000,
  entries: new Map([['/mesh/v1/presence/b', '{"ä":1}']]),
  used: new Map([[must(parseServiceName('orders')), 500]]),
  onDemand: true,
}

t.test('what was saved is loaded', async (t) => {
  const cache = new DiskCache({ ...settings, stateDirectory: `${testDirectory(t, {})}/state` })
  t.match(await cache.load(), { kind: 'none', reason: 'there is none' })
  await cache.save(view)
  t.strictSame(await cache.load(), { kind: 'loaded', view })
  t.equal(statSync(cache.path).mode & 0o777, 0o600)
})

t.test('a view of many pieces is one text, as it always was, and is loaded whole', async (t) => {
  const cache = new DiskCache({ ...settings, stateDirectory: testDirectory(t, {}) })
  const entries = new Map(
    Array.from({ length: 2000 }, (_, n) => [`/mesh/v1/presence/h${n}`, '{"ä":"…"}'.repeat(9)]),
  )
  await cache.save({ ...view, entries })
  t.strictSame(await cache.load(), { kind: 'loaded', view: { ...view, entries } })
  const [, body = ''] = readFileSync(cache.path, 'utf8').split('\n')
  t.ok(body.length > 200_000)
  t.equal(JSON.stringify(JSON.parse(body)), body)
})

t.test('a file cut short or changed anywhere is not used', async (t) => {
  const cache = new DiskCache({ ...settings, stateDirectory: testDirectory(t, {}) })
  await cache.save(view)
  const whole = readFileSync(cache.path)
  for (let length = 0; length < whole.length; length += 1) {
    writeFileSync(cache.path, whole.subarray(0, length))
    t.equal((await cache.load()).kind, 'none', `cut to ${length}`)
  }
  for (let at = 0; at < whole.length - 1; at += 1) {
    const changed = Buffer.from(whole)
    changed.writeUInt8((whole.at(at) ?? 0) ^ 1, at)
    writeFileSync(cache.path, changed)
    t.equal((await cache.load()).kind, 'none', `changed at ${at}`)
  }
})

t.test('a view of another host or mesh is not used', async (t) => {
  const stateDirectory = testDirectory(t, {})
  await new DiskCache({ ...settings, stateDirectory }).save(view)
  const others = [
    { ...settings, host: must(parseHostName('b')) },
    { ...settings, trustDomain: must(parseTrustDomain('other.internal')) },
  ]
  for (const other of others) {
    const reading = await new DiskCache({ ...other, stateDirectory }).load()
    t.match(reading, { kind: 'none', reason: 'it belongs to host a of mesh.internal' })
  }
})
