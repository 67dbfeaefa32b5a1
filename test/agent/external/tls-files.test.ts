import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { TlsFiles } from '#agent/external/tls-files.ts'
import type { ExternalTls } from '#shared/model/external.ts'
import { makeTestCa } from '#test/support/certs.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { testDirectory } from '#test/support/test-directory.ts'
import { until } from '#test/support/until.ts'

const everyMs = 30_000
const ca = await makeTestCa('outside.test')
const [mine, next] = await Promise.all(
  ['mine', 'next'].map((name) => ca.issue({ id: `https://${name}.test/` })),
)
if (mine === undefined || next === undefined) throw new Error('no leaves')

function make(files: Record<string, string>) {
  const clock = new FakeClock()
  const reads: string[] = []
  const tlsFiles = new TlsFiles({
    clock,
    onLooked: () => {},
    read: async (path) => {
      reads.push(path)
      const text = files[path]
      if (text === undefined) throw new Error('ENOENT')
      return text
    },
  })
  t.teardown(() => tlsFiles.stop())
  return { clock, tlsFiles, reads }
}

t.test('a certificate and its key change together, or not at all', async (t) => {
  const files: Record<string, string> = { '/c.pem': mine.chainPem, '/k.pem': mine.keyPem }
  const { clock, tlsFiles } = make(files)
  const tls: ExternalTls = { certFile: '/c.pem', keyFile: '/k.pem' }
  tlsFiles.want([tls])
  t.ok(tlsFiles.isLooking)
  t.same(tlsFiles.of(tls).material, null, 'nobody is called before')
  await clock.advance(0)
  const first = tlsFiles.of(tls)
  t.match(first, { material: { certPem: mine.chainPem, keyPem: mine.keyPem }, problem: '' })

  files['/c.pem'] = next.chainPem
  await clock.advance(everyMs)
  t.equal(tlsFiles.of(tls).material, first.material, 'half a change is none')
  t.match(tlsFiles.of(tls).problem, /certFile \/c\.pem and keyFile \/k\.pem do not belong together/)
  files['/k.pem'] = next.keyPem
  await clock.advance(everyMs)
  t.match(tlsFiles.of(tls), {
    about: null,
    material: { certPem: next.chainPem, keyPem: next.keyPem },
    problem: '',
  })
  const second = tlsFiles.of(tls).material
  await clock.advance(everyMs)
  t.equal(tlsFiles.of(tls).material, second, 'the same object while nothing changes')
})

t.test('what holds no certificate, or a broken one, is named by its place', async (t) => {
  const broken = mine.chainPem.replace(/(-----BEGIN CERTIFICATE-----\n.{8})..../, '$1AAAA')
  const cases: readonly (readonly [string, RegExp])[] = [
    ['', /caFile \/ca\.pem holds no certificate/],
    [mine.keyPem, /holds no certificate/],
    [ca.bundlePem + broken, /caFile \/ca\.pem: certificate \d+ cannot be read/],
  ]
  for (const [text, why] of cases) {
    const { clock, tlsFiles } = make({ '/ca.pem': text })
    const tls = { caFile: '/ca.pem' }
    tlsFiles.want([tls])
    await clock.advance(0)
    t.equal(tlsFiles.of(tls).material, null)
    t.match(tlsFiles.of(tls), { problem: why, about: 'caFile' })
  }
  const files = { '/c.pem': mine.chainPem, '/k.pem': 'no key' }
  const { clock, tlsFiles } = make(files)
  const tls = { certFile: '/c.pem', keyFile: '/k.pem' }
  tlsFiles.want([tls])
  await clock.advance(0)
  t.match(tlsFiles.of(tls).problem, /cannot be used/)
})

t.test('files that no manifest names any more are read no more', async (t) => {
  const { clock, tlsFiles, reads } = make({ '/ca.pem': ca.bundlePem })
  tlsFiles.want([{ caFile: '/ca.pem' }, {}])
  await clock.advance(0)
  t.same(reads, ['/ca.pem'])
  tlsFiles.want([{}])
  await clock.advance(10 * everyMs)
  t.same(reads, ['/ca.pem'])
  t.equal(clock.pending, 0)
  t.notOk(tlsFiles.isLooking)
})

t.test('whatever stands where a file should costs one bounded read', async (t) => {
  const directory = testDirectory(t)
  const at = (name: string): string => join(directory, name)
  execFileSync('mkfifo', [at('pipe')])
  writeFileSync(at('big.pem'), Buffer.alloc(1_048_577, 0x20))
  writeFileSync(at('good.pem'), ca.bundlePem)
  const tlsFiles = new TlsFiles({ clock: new FakeClock(), onLooked: () => {} })
  t.teardown(() => tlsFiles.stop())
  const names = ['pipe', 'big.pem', 'good.pem', 'none.pem', '.']
  const all = names.map((name) => ({ caFile: at(name) }))
  tlsFiles.want([...all, { caFile: '/dev/zero' }])
  await until('all were looked at', () => !tlsFiles.isLooking)
  const [pipe, big, good, none, folder] = all.map((tls) => tlsFiles.of(tls).problem)
  t.match(pipe, /no regular file/)
  t.match(big, /more than 1048576 bytes/)
  t.equal(good, '')
  t.match(none, /ENOENT/)
  t.match(folder, /no regular file/)
  t.match(tlsFiles.of({ caFile: '/dev/zero' }).problem, /no regular file/)
})
