import t from 'tap'
import { ExternalServices } from '#agent/external/external-services.ts'
import { NameTargets } from '#agent/interception/name-targets.ts'
import { readManifest } from '#shared/schema/manifest.ts'
import type { Manifest } from '#shared/model/manifest.ts'
import { makeTestCa } from '#test/support/certs.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { silentLogger } from '#test/support/silent-logger.ts'

const everyMs = 30_000
const { bundlePem } = await makeTestCa('outside.test')

function manifestOf(external: object, more: object = {}): Manifest {
  const reading = readManifest('api.json', Buffer.from(JSON.stringify({ external, ...more })))
  if (!reading.ok) throw new Error(JSON.stringify(reading.problems))
  return reading.manifest
}

function make(
  answers: Record<string, readonly string[] | Error>,
  files: Record<string, string | Error> = {},
) {
  const clock = new FakeClock()
  const here = new Set(['203.0.113.1'])
  let changes = 0
  const answer = (all: typeof answers | typeof files, key: string) => {
    const found = all[key] ?? new Error('ENOTFOUND')
    if (found instanceof Error) throw found
    return found
  }
  const names = new NameTargets({
    clock,
    onChange: () => externals.refresh(),
    lookup: async (name) => answer(answers, name) as readonly string[],
  })
  const externals: ExternalServices = new ExternalServices({
    clock,
    logger: silentLogger,
    names,
    isHere: (address) => here.has(address),
    onChange: () => void changes++,
    read: async (path) => answer(files, path) as string,
  })
  t.teardown(() => (externals.stop(), names.stop()))
  const addresses = (): readonly string[] =>
    externals.views.flatMap(({ endpoints }) => endpoints.map(({ address }) => address))
  return { clock, externals, addresses, here, changes: () => changes }
}

const api = { addresses: ['api.example.com', '203.0.113.9'], port: 443 }

t.test('names are looked up again, and the last good answer stays', async (t) => {
  const answers: Record<string, readonly string[] | Error> = { 'api.example.com': ['203.0.113.5'] }
  const { clock, externals, addresses, changes } = make(answers)
  externals.setManifests([manifestOf(api)])
  t.ok(externals.isLooking)
  await clock.advance(0)
  t.notOk(externals.isLooking)
  t.same(addresses(), ['203.0.113.5', '203.0.113.9'])
  const [before] = externals.views
  t.match(before, { name: 'api', protocol: 'tcp', tls: null })
  t.same(before?.names, ['api.example.com', '203.0.113.9'])

  answers['api.example.com'] = new Error('EAI_AGAIN')
  await clock.advance(everyMs)
  t.same(addresses(), ['203.0.113.5', '203.0.113.9'], 'what does not resolve is where it was')
  t.equal(externals.views[0], before, 'and nobody is told')
  t.match(externals.report()[0]?.problems, [/api\.example\.com does not resolve: EAI_AGAIN/])

  answers['api.example.com'] = ['203.0.113.6']
  const told = changes()
  await clock.advance(everyMs)
  t.same(addresses(), ['203.0.113.6', '203.0.113.9'])
  t.equal(changes(), told + 1)
  t.same(externals.report()[0]?.problems, [])
  externals.setManifests([])
  t.same([externals.views, externals.report()], [[], []])
})

t.test('a name outside that leads to this host leads nowhere', async (t) => {
  const inside = [
    '203.0.113.1',
    '127.0.0.1',
    '::1',
    '0.0.0.0',
    '169.254.169.254',
    '::ffff:127.0.0.1',
  ]
  const { clock, externals, addresses } = make({ 'api.example.com': inside })
  externals.setManifests([manifestOf({ ...api, addresses: ['api.example.com'] })])
  await clock.advance(0)
  t.same(addresses(), [])
  t.match(externals.report()[0]?.problems, [/none of its addresses is one of another machine/])
})

t.test('without the roots it names nobody is proven, and nobody called', async (t) => {
  const files: Record<string, string | Error> = { '/own.pem': new Error('EACCES') }
  const { clock, externals, addresses } = make({}, files)
  const tls = { caFile: '/own.pem', serverName: 'db.example.com' }
  externals.setManifests([manifestOf({ addresses: ['203.0.113.9'], port: 443, tls })])
  await clock.advance(0)
  t.same(addresses(), [])
  t.match(externals.report()[0]?.problems, [/caFile \/own\.pem cannot be read: EACCES/])

  t.match(externals.warningsOf('api'), [/^api\.json:1:\d+: caFile \/own\.pem cannot be read/])
  t.same(externals.warningsOf('other'), [])
  files['/own.pem'] = bundlePem
  await clock.advance(everyMs)
  t.same(addresses(), ['203.0.113.9'])
  t.match(externals.views[0], {
    tls: { serverName: 'db.example.com', caPem: bundlePem },
    names: ['203.0.113.9', 'db.example.com'],
  })
  files['/own.pem'] = new Error('EIO')
  await clock.advance(everyMs)
  t.same(addresses(), ['203.0.113.9'], 'what was read last counts')
  t.match(externals.report()[0]?.problems, [/EIO/])
})

t.test('an address that comes to this host is called no more', async (t) => {
  const { clock, externals, addresses, here } = make({})
  externals.setManifests([manifestOf({ addresses: ['203.0.113.9', '203.0.113.8'], port: 443 })])
  t.same(addresses(), ['203.0.113.9', '203.0.113.8'])
  here.add('203.0.113.9')
  await clock.advance(everyMs)
  t.same(addresses(), ['203.0.113.8'], 'the agent goes past the locks of its own host')
})

t.test('once stopped it tells nobody of what it still finds', async (t) => {
  const { clock, externals, changes } = make({ 'api.example.com': ['203.0.113.5'] })
  externals.setManifests([manifestOf(api)])
  const told = changes()
  externals.stop()
  await clock.advance(everyMs)
  t.equal(changes(), told)
})
