import { X509Certificate } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { createServer as createTlsServer } from 'node:tls'
import t from 'tap'
import { controllerProblem } from '#cli/client/controller-probe.ts'
import type { ServiceUnits } from '#cli/client/service-units.ts'
import { machineProblems, type MachineFacts } from '#cli/machine-fitness.ts'
import { holdsAll, preflight, writeMissing } from '#cli/preflight.ts'
import { makeTestCa } from '#test/support/certs.ts'
import { freePort } from '#test/support/free-port.ts'
import { testDirectory } from '#test/support/test-directory.ts'

const units: ServiceUnits = {
  running: true,
  has: (unit) => unit !== 'absent.service',
  isActive: () => false,
  isLost: () => false,
  stoppedWith: () => [],
  reload: () => {},
  lastWords: () => '',
  enable: () => {},
  start: () => {},
  restart: () => {},
  stop: () => {},
}
const machine = (): MachineFacts => fit
const fit: MachineFacts = {
  kernel: '6.1.0-28-amd64',
  nftProblem: '',
  bytesFree: 1e9,
  missingUsers: [],
  packageStatus: 'installed',
}
const nothing = { isRoot: true, files: {}, units: [], ports: [] }

t.test('preflight finds everything that is in the way, at once', async (t) => {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, resolve))
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const file = join(testDirectory(t, { 'agent.json': '{"controller": "else:1"}' }), 'agent.json')
  const found = await preflight(
    { units, machine },
    {
      isRoot: false,
      files: { [file]: '{"controller": "here:1"}' },
      units: ['absent.service', 'present.service'],
      ports: [{ unit: 'present.service', port }],
    },
  )
  t.match(found, [/needs root/, /no unit absent\.service/, /agent\.json is there/, /port \d+ is/])
  t.match(await preflight({ units: { ...units, running: false }, machine }, nothing), [/systemd/])
  t.same(await preflight({ units, machine }, nothing), [])
})

t.test('machineProblems has one line for each thing that a machine lacks', async (t) => {
  t.same(machineProblems(fit, true), [])
  const unfit = {
    kernel: '4.19.0',
    nftProblem: 'nft was not found',
    bytesFree: 1e6,
    missingUsers: ['mesh-agent'],
    packageStatus: 'half-configured',
  }
  t.match(machineProblems(unfit, true), [
    /^the kernel is 4\.19\.0; 5\.10 or later is needed$/,
    /^nft does not work here \(nft was not found\): install nftables/,
    /^only 0 MiB are free/,
    /^the package is half-configured: run dpkg/,
  ])
  t.match(machineProblems({ ...fit, packageStatus: '', missingUsers: ['mesh-agent'] }, true), [
    /^no user mesh-agent/,
  ])
  t.same(machineProblems({ ...fit, nftProblem: 'no', kernel: '5.10.0' }, false), [])
})

t.test(
  'controllerProblem tells a controller that is away from a clock that is wrong',
  async (t) => {
    const port = await freePort()
    const away = await controllerProblem({ host: '127.0.0.1', port, nowMs: Date.now() })
    t.match(away, `the controller at 127.0.0.1:${port} cannot be reached (ECONNREFUSED)`)
    const id = 'spiffe://mesh.internal/controller/c1'
    const { chainPem: cert, keyPem: key, der } = await (await makeTestCa()).issue({ id })
    const server = createTlsServer({ cert, key, ALPNProtocols: ['h2'] })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    t.teardown(() => server.close())
    const { validFrom, validTo } = new X509Certificate(der)
    const [fromMs, toMs] = [Date.parse(validFrom), Date.parse(validTo)]
    const asked = { host: '127.0.0.1', port: (server.address() as AddressInfo).port }
    t.equal(await controllerProblem({ ...asked, nowMs: fromMs + 1000 }), '')
    for (const nowMs of [fromMs - 60_000, toMs + 60_000]) {
      t.match(
        await controllerProblem({ ...asked, nowMs }),
        /^it is .* here, .* set this host's clock$/,
      )
    }
  },
)

t.test('holdsAll lets a config set more than it must, and nothing else', async (t) => {
  const wanted = '{"controller": "10.0.0.1:15010", "host": "a"}'
  t.ok(holdsAll('{"host":"a", "zone":"z", "controller":"10.0.0.1:15010"}', wanted))
  for (const text of ['{"host":"a"}', '{"controller":"10.0.0.1:15010","host":"b"}', 'null', '{']) {
    t.notOk(holdsAll(text, wanted), text)
  }
})

t.test('writeMissing keeps what is there', async (t) => {
  const dir = testDirectory(t, { 'a.json': 'mine' })
  const [there, missing] = [join(dir, 'a.json'), join(dir, 'b.json')]
  await writeMissing({ [there]: 'theirs', [missing]: 'new' })
  t.equal(readFileSync(there, 'utf8'), 'mine')
  t.equal(readFileSync(missing, 'utf8'), 'new')
  writeFileSync(missing, 'changed')
  await writeMissing({ [missing]: 'new' })
  t.equal(readFileSync(missing, 'utf8'), 'changed')
  t.ok(existsSync(there))
})
