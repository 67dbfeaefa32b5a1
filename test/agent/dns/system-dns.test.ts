import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync, lstatSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { SystemDns, type SystemDnsSettings } from '#agent/dns/system-dns.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { logLines } from '#test/support/log-lines.ts'
import { testDirectory } from '#test/support/test-directory.ts'
import { until } from '#test/support/until.ts'

const usual = 'search example.org\nnameserver 192.0.2.1\nnameserver 192.0.2.2\n'

function rig(directory: string, settings: Partial<SystemDnsSettings> = {}) {
  const clock = new FakeClock()
  const { logger, lines } = logLines()
  const files = {
    resolvConf: join(directory, 'resolv.conf'),
    dropIn: join(directory, 'resolved.conf.d/hostmesh.conf'),
    resolvedServers: join(directory, 'resolved-servers'),
  }
  let reloads = 0
  const dns = new SystemDns(
    { clock, logger, reloadResolved: async () => void reloads++ },
    {
      mode: 'auto',
      server: { address: '127.0.0.1', port: 15053 },
      stubAddress: '127.0.0.58',
      ...files,
      ...settings,
    },
  )
  return { ...files, clock, lines, dns, reloads: () => reloads }
}

const read = (path: string): string => readFileSync(path, 'utf8')

t.test('SystemDns stands first in resolv.conf, and leaves it as it was', async (t) => {
  const { resolvConf, dns } = rig(testDirectory(t, { 'resolv.conf': usual }))
  await dns.start()
  t.match(read(resolvConf), /^#[^\n]*\nnameserver 127\.0\.0\.58\n/)
  t.same(dns.servers, ['192.0.2.1', '192.0.2.2'])
  t.equal(dns.state.kind, 'resolv-conf')
  await dns.stop()
  t.equal(read(resolvConf), usual)
  t.equal(dns.state.kind, 'off')
})

t.test('SystemDns comes back where another program wrote resolv.conf anew', async (t) => {
  const { resolvConf, dns, clock } = rig(testDirectory(t, { 'resolv.conf': usual }))
  await dns.start()
  writeFileSync(resolvConf, 'nameserver 192.0.2.7\n')
  await clock.advance(2000)
  await until('it is there again', () => read(resolvConf).includes('127.0.0.58'))
  t.same(dns.servers, ['192.0.2.7'])
  await dns.stop()
  t.equal(read(resolvConf), 'nameserver 192.0.2.7\n')
})

t.test('SystemDns writes through a link and keeps it', async (t) => {
  const directory = testDirectory(t, { real: usual })
  const { resolvConf, dns } = rig(directory)
  symlinkSync(join(directory, 'real'), resolvConf)
  await dns.start()
  t.match(read(join(directory, 'real')), /127\.0\.0\.58/)
  await dns.stop()
  t.ok(lstatSync(resolvConf).isSymbolicLink())
  t.equal(read(resolvConf), usual)
})

t.test('SystemDns has systemd-resolved send it `mesh` alone where programs ask that', async (t) => {
  const stub = 'nameserver 127.0.0.53\noptions edns0 trust-ad\n'
  const { resolvConf, dropIn, dns, clock, reloads } = rig(
    testDirectory(t, { 'resolv.conf': stub, 'resolved-servers': usual }),
  )
  await dns.start()
  t.equal(read(resolvConf), stub)
  t.match(read(dropIn), /^\[Resolve\]\nDNS=127\.0\.0\.1:15053\nDomains=~mesh$/m)
  t.same(dns.servers, ['192.0.2.1', '192.0.2.2'], 'the real ones, not itself through resolved')
  t.equal(reloads(), 1)
  await clock.advance(4000)
  t.equal(reloads(), 1, 'nothing to mend')
  await dns.stop()
  t.notOk(existsSync(dropIn))
  t.equal(reloads(), 2)
})

t.test('SystemDns never has questions go round by systemd-resolved', async (t) => {
  const stub = 'nameserver 127.0.0.53\n'
  for (const known of ['', stub]) {
    const { dns } = rig(testDirectory(t, { 'resolv.conf': stub, 'resolved-servers': known }))
    await dns.start()
    t.same(dns.servers, [])
    await dns.stop()
  }
})

t.test('SystemDns off reads the resolvers and writes nothing', async (t) => {
  const { resolvConf, dns } = rig(testDirectory(t, { 'resolv.conf': usual }), { mode: 'off' })
  await dns.start()
  t.same(dns.servers, ['192.0.2.1', '192.0.2.2'])
  t.equal(read(resolvConf), usual)
  await dns.stop()
})

t.test('SystemDns says once what it may not do, and goes on trying', async (t) => {
  const directory = testDirectory(t, {})
  mkdirSync(join(directory, 'resolv.conf'))
  const { dns, clock, lines } = rig(directory)
  await dns.start()
  t.match(dns.state, { kind: 'failed', problem: /EISDIR/ })
  await clock.advance(6000)
  t.equal(lines.length, 1)
  t.match(lines, [{ hint: /systemDns/ }])
  await dns.stop()
  const unprivileged = rig(testDirectory(t, { 'resolv.conf': usual }), { stubAddress: null })
  await unprivileged.dns.start()
  t.match(unprivileged.dns.state, { kind: 'failed', problem: /port 53/ })
  t.equal(read(unprivileged.resolvConf), usual)
  await unprivileged.dns.stop()
})
