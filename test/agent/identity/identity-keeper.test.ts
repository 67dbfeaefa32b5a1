/**
 * Holds the identity keeper to its word: against a whole controller over real TLS, and against a CA
 * in this process with a clock that the test turns.
 */

import { createPublicKey } from 'node:crypto'
import {
  existsSync,
  readFileSync,
  readdirSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import t from 'tap'
import type { ControllerPort, ControllerSession } from '#agent/identity/controller-port.ts'
import { GrpcControllerPort } from '#agent/identity/controller-port.ts'
import { HostIdentity } from '#agent/identity/host-identity.ts'
import { IdentityFiles } from '#agent/identity/identity-files.ts'
import { IdentityKeeper } from '#agent/identity/identity-keeper.ts'
import { TrustFile } from '#agent/identity/trust-file.ts'
import { TrustKeeper } from '#agent/identity/trust-keeper.ts'
import { Authority } from '#controller/ca/authority.ts'
import type { Clock } from '#shared/lifecycle/clock.ts'
import { systemClock, systemRandom as random } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import { createLogger } from '#shared/logging/logger.ts'
import { must, parseHostName, parseServiceName, parseTrustDomain } from '#shared/model/names.ts'
import type { HostName, ServiceName } from '#shared/model/names.ts'
import { checkCsr, makeCsr } from '#shared/pki/csr.ts'
import { formatJoinToken } from '#shared/pki/join-token.ts'
import { generateKey, keyFromPem, publicKeyDer } from '#shared/pki/keys.ts'
import { signRecord } from '#shared/pki/signed-record.ts'
import type { Issued, MeshDescription } from '#shared/rpc/host-messages.ts'
import { encodeTrust } from '#shared/schema/trust.ts'
import { bundleKey } from '#shared/store/keys.ts'
import { startController } from '#test/support/controller.ts'
import { FakeClock } from '#test/support/fake-clock.ts'
import { activate } from '#test/support/root-steps.ts'
import { testDirectory } from '#test/support/test-directory.ts'

const host = must(parseHostName('h1'))
const service = (name: string): ServiceName => must(parseServiceName(name))
const logger = createLogger({ name: 'test', level: 'silent' })
const orders = service('orders')
const hostIdText = 'spiffe://mesh.internal/host/h1'

interface KeeperSettings {
  readonly controller: ControllerPort
  readonly state: string
  /** Read anew at every look. */
  readonly token?: string | null
  readonly clock?: Clock
  readonly host?: HostName
}

function makeKeeper(settings: KeeperSettings): IdentityKeeper {
  const { controller, state, clock = systemClock } = settings
  const name = settings.host ?? host
  const files = new IdentityFiles({ stateDirectory: state, host: name })
  const joinToken = (): Promise<string | null> => Promise.resolve(settings.token ?? null)
  const file = new TrustFile({ logger }, { stateDirectory: state })
  const trust = new TrustKeeper({ file, clock, logger })
  const parts = { controller, files, trust, joinToken, clock, random, logger }
  return new IdentityKeeper(parts, { host: name })
}

/** Waits until `holds` after a change. */
function until(keeper: IdentityKeeper, holds: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    let stop = (): void => {}
    const look = (): void => {
      if (!holds()) return
      stop()
      resolve()
    }
    stop = keeper.onChange(look)
    look()
  })
}

/**
 * Turns the clock until `holds`. Keys and files take their own time: while a round is under way no
 * timer is pending, and the clock stands still.
 */
async function turnUntil(clock: FakeClock, stepMs: number, holds: () => boolean): Promise<void> {
  while (!holds()) {
    await clock.advance(stepMs)
    do {
      await new Promise((resolve) => {
        setTimeout(resolve, 2)
      })
    } while (clock.pending === 0 && !holds())
  }
}

/** A controller in this process: a real CA, a clock to turn, failures on demand. */
interface LocalController extends ControllerPort {
  readonly clock: FakeClock
  readonly authority: Authority
  readonly calls: string[]
  /** Sessions by what became of them. */
  readonly sessions: { opened: number; closed: number }
  /** What every call fails with, or null. */
  failure: MeshError | null
  mesh: MeshDescription
}

async function makeLocal(directory: string, leafTtlMs = 3_600_000): Promise<LocalController> {
  const clock = new FakeClock({ epoch: Date.now() })
  const trustDomain = must(parseTrustDomain('mesh.internal'))
  const authority = await Authority.open(
    { clock, random, logger },
    { stateDirectory: `${directory}/ca`, trustDomain, leafTtlMs },
  )
  const answer = async <T>(name: string, make: () => T | Promise<T>): Promise<T> => {
    local.calls.push(name)
    if (local.failure !== null) throw local.failure
    return make()
  }
  const local: LocalController = {
    clock,
    authority,
    calls: [],
    sessions: { opened: 0, closed: 0 },
    failure: null,
    mesh: {
      trustDomain,
      trustBundlePem: authority.bundlePem,
      store: { kind: 'embedded', endpoints: ['https://127.0.0.1:1'], serverName: 'c1' },
      controller: 'c1',
      controllers: [],
      trustRecords: [],
    },
    enrol: (_token, csr, name) =>
      answer('enrol', async () => {
        const certificate = await authority.issueHost(name, must(checkCsr(csr)))
        return { certificate, mesh: local.mesh, host: name }
      }),
    open: () => {
      let isOpen = true
      local.sessions.opened += 1
      return {
        describeMesh: () => answer('describe', () => local.mesh),
        renewHost: (csr) => answer('renew', () => authority.issueHost(host, must(checkCsr(csr)))),
        issueService: (name, csr) =>
          answer(`issue ${name}`, () => authority.issueService(name, host, must(checkCsr(csr)))),
        close() {
          if (isOpen) local.sessions.closed += 1
          isOpen = false
        },
      }
    },
  }
  return local
}

const serials = (keeper: IdentityKeeper): string[] => keeper.credentials.map(({ serial }) => serial)
const codes = (keeper: IdentityKeeper): string[] => keeper.problems.map(({ code }) => code)

t.test(
  'a host enrols with a token, gets services, and starts again without a controller',
  async (t) => {
    const directory = testDirectory(t)
    const running = await startController(directory)
    t.teardown(() => running.stop())
    const controller = new GrpcControllerPort(
      { clock: systemClock },
      { addresses: [running.address] },
    )
    const settings = { controller, state: `${directory}/agent` }

    const keeper = makeKeeper({ ...settings, token: `${await running.token()}\n` })
    keeper.want(new Set([orders, service('carts')]))
    await keeper.start()
    await until(keeper, () => keeper.credentials.length === 3)
    t.same(
      keeper.credentials.map(({ id }) => id),
      [hostIdText, 'spiffe://mesh.internal/service/orders', 'spiffe://mesh.internal/service/carts'],
    )
    t.equal(keeper.host?.id, hostIdText)
    t.equal(keeper.mesh?.controller, 'c1')
    t.same(keeper.mesh?.store, {
      kind: 'embedded',
      endpoints: [`https://127.0.0.1:${running.ports.store}`],
      serverName: 'c1.controller.mesh.internal',
    })
    t.same(keeper.problems, [])
    await keeper.stop()
    for (const name of readdirSync(`${settings.state}/identity`)) {
      t.equal(statSync(`${settings.state}/identity/${name}`).mode & 0o777, 0o600, name)
    }

    await running.stop()
    const again = makeKeeper(settings)
    again.want(new Set([orders]))
    await again.start()
    t.teardown(() => again.stop())
    t.same(serials(again), serials(keeper).slice(0, 2))
    t.equal(again.bundlePem, keeper.bundlePem)
    await until(again, () => again.problems.length > 0)
    t.same(codes(again), ['controller-unavailable'])
  },
)

t.test('a service the record does not allow is a problem of its own', async (t) => {
  const directory = testDirectory(t)
  const running = await startController(directory)
  t.teardown(() => running.stop())
  const controller = new GrpcControllerPort(
    { clock: systemClock },
    { addresses: [running.address] },
  )
  const token = await running.token({ services: ['orders'] })
  const keeper = makeKeeper({ controller, state: `${directory}/agent`, token })
  t.teardown(() => keeper.stop())
  keeper.want(new Set([service('admin'), orders]))
  await keeper.start()
  await until(keeper, () => keeper.credentials.length === 2 && keeper.problems.length === 1)
  t.match(keeper.problems, [{ identity: 'admin', code: 'service-not-allowed' }])
})

t.test('a new token widens what an enrolled host may speak for', async (t) => {
  const directory = testDirectory(t)
  const running = await startController(directory)
  t.teardown(() => running.stop())
  const controller = new GrpcControllerPort(
    { clock: systemClock },
    { addresses: [running.address] },
  )
  const admin = service('admin')
  const settings = {
    controller,
    state: `${directory}/agent`,
    token: await running.token({ services: ['orders'] }),
  }
  const keeper = makeKeeper(settings)
  t.teardown(() => keeper.stop())
  const wake = (): void => keeper.want(new Set([admin, orders]))
  wake()
  await keeper.start()
  await until(keeper, () => codes(keeper).includes('service-not-allowed'))
  const before = keeper.host?.serial

  settings.token = await running.token({ host: 'h2' })
  wake()
  await until(keeper, () => codes(keeper).includes('token-for-another-host'))
  t.equal(keeper.host?.serial, before, 'a refused token costs nothing')

  settings.token = await running.token({ services: ['orders', 'admin'] })
  await until(keeper, () => {
    if (codes(keeper).includes('token-for-another-host')) setImmediate(wake)
    return keeper.credentials.length === 3
  })
  t.not(keeper.host?.serial, before)
  await until(keeper, () => keeper.problems.length === 0)
  await keeper.stop()

  const again = makeKeeper(settings)
  t.teardown(() => again.stop())
  await again.start()
  await until(again, () => again.contact.kind === 'up')
  t.same(again.problems, [], 'the token it enrolled with is not tried again')
  t.equal(again.host?.serial, keeper.host?.serial)
})

t.test('the token is looked at, and the controller asked, about once a minute', async (t) => {
  const directory = testDirectory(t)
  const controller = await makeLocal(directory)
  const { clock } = controller
  const tokenOf = (seed: number): string =>
    formatJoinToken({
      id: Buffer.alloc(12, seed).toString('base64url'),
      secret: Buffer.alloc(32, seed),
      rootHash: Buffer.alloc(32, seed),
    })
  const settings = { controller, clock, state: `${directory}/agent`, token: tokenOf(1) }
  const keeper = makeKeeper(settings)
  t.teardown(() => keeper.stop())
  await keeper.start()
  await until(keeper, () => keeper.host !== null)
  const enrolments = (): number => controller.calls.filter((call) => call === 'enrol').length
  const describes = (): number => controller.calls.filter((call) => call === 'describe').length
  const begin = clock.now()
  await turnUntil(clock, 1000, () => describes() === 3)
  t.ok(clock.now() - begin <= 300_000, `three looks in ${clock.now() - begin} ms`)
  t.equal(enrolments(), 1)

  controller.failure = new MeshError('no', { code: 'token-expired' })
  settings.token = tokenOf(2)
  await turnUntil(clock, 1000, () => codes(keeper).includes('token-expired'))
  controller.failure = null
  const seen = describes()
  await turnUntil(clock, 1000, () => describes() > seen + 2)
  t.equal(enrolments(), 2, 'a refused token is not tried again')
  t.same(codes(keeper), ['token-expired'])

  settings.token = tokenOf(3)
  await turnUntil(clock, 1000, () => enrolments() === 3 && keeper.problems.length === 0)

  controller.failure = new MeshError('away', { code: 'controller-unavailable', retry: true })
  await turnUntil(clock, 1000, () => keeper.contact.kind === 'down')
  const { contact } = keeper
  const later = clock.now() + 200_000
  await turnUntil(clock, 5000, () => clock.now() >= later)
  t.same(keeper.contact, contact, 'the outage began with its first failure')
  controller.failure = null
  await turnUntil(clock, 1000, () => keeper.contact.kind === 'up')
})

t.test('a token for another host, and one of another mesh, are problems that say so', async (t) => {
  const directory = testDirectory(t)
  const [own, other] = [
    await startController(`${directory}/own`),
    await startController(`${directory}/other`),
  ]
  t.teardown(() => Promise.all([own.stop(), other.stop()]))
  const controller = new GrpcControllerPort({ clock: systemClock }, { addresses: [own.address] })
  const tries: readonly (readonly [string, string])[] = [
    [await own.token({ host: 'h2' }), 'token-for-another-host'],
    [await other.token(), 'root-mismatch'],
    ['rubbish', 'token-malformed'],
  ]
  for (const [index, [token, code]] of tries.entries()) {
    const keeper = makeKeeper({ controller, state: `${directory}/agent${index}`, token })
    await keeper.start()
    await until(keeper, () => keeper.problems.length > 0)
    t.same(codes(keeper), [code])
    t.equal(keeper.host, null)
    await keeper.stop()
  }
})

t.test('each credential is renewed at half its life, with a new key', async (t) => {
  const directory = testDirectory(t)
  const controller = await makeLocal(directory)
  const { clock } = controller
  const keeper = makeKeeper({ controller, clock, state: `${directory}/agent`, token: 't' })
  t.teardown(() => keeper.stop())
  keeper.want(new Set([orders]))
  await keeper.start()
  await until(keeper, () => keeper.credentials.length === 2)
  const [host1, orders1] = keeper.credentials
  await clock.advance(3_600_000 * 0.39)
  t.same(serials(keeper), [host1?.serial, orders1?.serial])
  const begin = clock.now()
  const both = [host1?.serial, orders1?.serial]
  const renewed = (): boolean => !serials(keeper).some((one) => both.includes(one))
  await turnUntil(clock, 60_000, renewed)
  t.ok(clock.now() - begin <= 3_600_000 * 0.25, 'by sixty percent of the life, and a turn')
  for (const [before, after] of [
    [host1, keeper.credentials[0]],
    [orders1, keeper.credentials[1]],
  ]) {
    const keys = [before, after].map((one) => keyFromPem(one?.keyPem ?? ''))
    if (keys[0] === null || keys[0] === undefined || keys[1] === null || keys[1] === undefined) {
      throw new Error('no key')
    }
    t.not(publicKeyDer(keys[0]).toString('hex'), publicKeyDer(keys[1]).toString('hex'))
    t.ok(createPublicKey(keys[1]))
  }
})

t.test(
  'while the controller is away the old credentials serve to their end, then are named',
  async (t) => {
    const directory = testDirectory(t)
    const controller = await makeLocal(directory, 600_000)
    const { clock } = controller
    const keeper = makeKeeper({ controller, clock, state: `${directory}/agent`, token: 't' })
    t.teardown(() => keeper.stop())
    keeper.want(new Set([orders]))
    await keeper.start()
    await until(keeper, () => keeper.credentials.length === 2)
    const before = serials(keeper)
    controller.failure = new MeshError('away', { code: 'controller-unavailable', retry: true })
    controller.calls.length = 0
    const nearEndMs = clock.now() + 540_000
    await turnUntil(clock, 10_000, () => clock.now() >= nearEndMs)
    t.same(serials(keeper), before)
    t.same([...new Set(codes(keeper))], ['controller-unavailable'])
    const tries = controller.calls.length
    t.ok(tries >= 5 && tries <= 60, `${tries} tries in the second half of the life`)

    controller.failure = null
    await turnUntil(clock, 1000, () => keeper.problems.length === 0)
    t.notSame(serials(keeper), before)
  },
)

t.test(
  'whoever found the controller away tries at once when another call reaches it',
  async (t) => {
    const directory = testDirectory(t)
    const controller = await makeLocal(directory)
    const { clock } = controller
    const keeper = makeKeeper({ controller, clock, state: `${directory}/agent`, token: 't' })
    t.teardown(() => keeper.stop())
    await keeper.start()
    await until(keeper, () => keeper.credentials.length === 1)
    controller.failure = new MeshError('away', { code: 'controller-unavailable', retry: true })
    keeper.want(new Set([orders]))
    const end = clock.now() + 600_000
    // Tries are two minutes apart by then, those of a description one.
    await turnUntil(clock, 5000, () => clock.now() >= end)
    controller.failure = null
    controller.calls.length = 0
    await turnUntil(clock, 1000, () => controller.calls.includes('describe'))
    const back = clock.now()
    await turnUntil(clock, 1000, () => keeper.credentials.length === 2)
    t.ok(clock.now() - back <= 3000, `${clock.now() - back} ms after the controller was heard`)
  },
)

t.test('a service that comes is asked for first, over the session that is open', async (t) => {
  const directory = testDirectory(t)
  const controller = await makeLocal(directory)
  const { clock, calls, sessions } = controller
  const keeper = makeKeeper({ controller, clock, state: `${directory}/agent`, token: 't' })
  t.teardown(() => keeper.stop())
  const asleep = (): Promise<void> => turnUntil(clock, 0, () => clock.pending > 0)
  keeper.want(new Set([orders]))
  await keeper.start()
  await until(keeper, () => keeper.credentials.length === 2)
  await asleep()
  t.same(sessions, { opened: 1, closed: 0 })

  calls.length = 0
  keeper.want(new Set([orders, service('carts')]))
  await until(keeper, () => keeper.credentials.length === 3)
  await asleep()
  t.same(calls, ['issue carts'], 'and for nothing else')
  t.same(sessions, { opened: 1, closed: 0 })

  await clock.advance(31_000)
  t.same(sessions, { opened: 1, closed: 1 }, 'nobody has asked for half a minute')
  await turnUntil(clock, 1000, () => calls.includes('describe'))
  await asleep()
  t.same(sessions, { opened: 2, closed: 1 })

  controller.failure = new MeshError('away', { code: 'controller-unavailable', retry: true })
  keeper.want(new Set([orders, service('carts'), service('mail')]))
  await until(keeper, () => codes(keeper).includes('controller-unavailable'))
  await asleep()
  t.same(sessions, { opened: 2, closed: 2 }, 'who did not answer is not asked over it again')
  controller.failure = null
  await turnUntil(clock, 100, () => keeper.credentials.length === 4)
  t.equal(sessions.opened, 3)
})

t.test('a host that has just started hears of the mesh before it asks for anything', async (t) => {
  const directory = testDirectory(t)
  const controller = await makeLocal(directory)
  const { clock, calls } = controller
  const settings = { controller, clock, state: `${directory}/agent` }
  const first = makeKeeper({ ...settings, token: 't' })
  await first.start()
  await until(first, () => first.host !== null)
  await first.stop()

  calls.length = 0
  const again = makeKeeper(settings)
  t.teardown(() => again.stop())
  again.want(new Set([orders]))
  await again.start()
  await until(again, () => again.credentials.length === 2)
  t.same(calls, ['describe', 'issue orders'])
})

t.test('an ended host certificate needs a new token, and says so', async (t) => {
  const directory = testDirectory(t)
  const controller = await makeLocal(directory, 60_000)
  const { clock } = controller
  const settings = { controller, clock, state: `${directory}/agent` }
  const first = makeKeeper({ ...settings, token: 't' })
  await first.start()
  await until(first, () => first.host !== null)
  await first.stop()
  await clock.advance(61_000)

  const without = makeKeeper(settings)
  await without.start()
  await until(without, () => without.problems.length > 0)
  t.match(without.problems, [{ code: 'host-certificate-ended', hint: /join token/ }])
  await without.stop()

  const withToken = makeKeeper({ ...settings, token: 'new' })
  t.teardown(() => withToken.stop())
  await withToken.start()
  await until(withToken, () => withToken.host?.serial !== first.host?.serial)
  t.same(withToken.problems, [])
})

t.test('damaged files: a service is asked for again, a host says what to do', async (t) => {
  const directory = testDirectory(t)
  const controller = await makeLocal(directory)
  const { clock } = controller
  const settings = { controller, clock, state: `${directory}/agent` }
  const first = makeKeeper({ ...settings, token: 't' })
  first.want(new Set([orders]))
  await first.start()
  await until(first, () => first.credentials.length === 2)
  await first.stop()
  const files = { host: 'host.json', service: 'service.orders.json' }
  const path = (name: string): string => `${settings.state}/identity/${name}`
  const whole = {
    host: readFileSync(path(files.host), 'utf8'),
    service: readFileSync(path(files.service), 'utf8'),
  }

  for (const length of [0, 1, 100, whole.service.length - 10]) {
    writeFileSync(path(files.service), whole.service)
    truncateSync(path(files.service), length)
    const keeper = makeKeeper(settings)
    keeper.want(new Set([orders]))
    await keeper.start()
    await until(keeper, () => keeper.credentials.length === 2)
    t.not(keeper.credentials[1]?.serial, first.credentials[1]?.serial, `cut to ${length}`)
    await keeper.stop()
  }

  const damages = [
    '',
    '{}',
    'null',
    whole.host.slice(0, 500),
    whole.service,
    whole.host.replace('"format":1', '"format":"1"'),
    whole.host.replaceAll('BEGIN CERTIFICATE', 'BEGIN RUBBISH'),
  ]
  for (const damage of damages) {
    writeFileSync(path(files.host), damage)
    const keeper = makeKeeper(settings)
    await keeper.start()
    await until(keeper, () => keeper.problems.length > 0)
    t.match(keeper.problems, [{ code: 'host-file-damaged', hint: /join token/ }])
    t.notMatch(JSON.stringify(keeper.problems), /PRIVATE KEY/)
    await keeper.stop()
  }

  for (const [name, text] of [
    ['host.json', whole.host],
    ['service.orders.json', whole.service],
  ] as const) {
    writeFileSync(path('host.json'), whole.host)
    writeFileSync(path(name), text.replace('"format":1', '"format":2'))
    const newer = makeKeeper({ ...settings, token: 'new' })
    await t.rejects(newer.start(), { code: 'state-newer', message: /has format 2/ })
    await newer.stop()
    t.match(readFileSync(path(name), 'utf8'), '"format":2', 'what a newer version wrote stays')
    writeFileSync(path(name), text)
  }
  writeFileSync(path(files.host), '')

  const mended = makeKeeper({ ...settings, token: 'new' })
  t.teardown(() => mended.stop())
  await mended.start()
  await until(mended, () => mended.host !== null)
})

t.test('the files of one host are of no use to another', async (t) => {
  const directory = testDirectory(t)
  const controller = await makeLocal(directory)
  const settings = { controller, clock: controller.clock, state: `${directory}/agent` }
  const first = makeKeeper({ ...settings, token: 't' })
  await first.start()
  await until(first, () => first.host !== null)
  await first.stop()
  const other = makeKeeper({ ...settings, host: must(parseHostName('h2')) })
  t.teardown(() => other.stop())
  await other.start()
  await until(other, () => other.problems.length > 0)
  t.match(other.problems, [{ code: 'host-file-damaged', message: /host\/h1, not .*host\/h2/ }])
})

t.test('a service that is wanted again soon needs no new certificate', async (t) => {
  const directory = testDirectory(t)
  const controller = await makeLocal(directory)
  const { clock } = controller
  const state = `${directory}/agent`
  const keeper = makeKeeper({ controller, clock, state, token: 't' })
  t.teardown(() => keeper.stop())
  keeper.want(new Set([orders]))
  await keeper.start()
  await until(keeper, () => keeper.credentials.length === 2)
  await turnUntil(clock, 0, () => clock.pending > 0)
  const before = serials(keeper)
  keeper.want(new Set())
  t.equal(keeper.credentials.length, 1)
  keeper.want(new Set([orders]))
  t.same(serials(keeper), before)

  keeper.want(new Set())
  const file = `${state}/identity/service.orders.json`
  t.ok(existsSync(file))
  const endsMs = clock.now() + 3_590_000
  await turnUntil(clock, 60_000, () => !existsSync(file))
  t.ok(clock.now() >= endsMs, 'kept to its end')
  t.equal(controller.calls.filter((call) => call === 'issue orders').length, 1)
})

t.test('a changed description of the mesh is told and kept on disk', async (t) => {
  const directory = testDirectory(t)
  const controller = await makeLocal(directory)
  const settings = { controller, clock: controller.clock, state: `${directory}/agent` }
  const first = makeKeeper({ ...settings, token: 't' })
  await first.start()
  await until(first, () => first.mesh !== null)
  await first.stop()

  const store = { kind: 'etcd', endpoints: ['http://127.0.0.1:2379'], serverName: '' }
  controller.mesh = { ...controller.mesh, store }
  const second = makeKeeper(settings)
  await second.start()
  await until(second, () => second.mesh?.store.kind === 'etcd')
  await second.stop()
  controller.failure = new MeshError('away', { code: 'controller-unavailable', retry: true })
  const third = makeKeeper(settings)
  await third.start()
  t.same(third.mesh?.store, store)
  await third.stop()

  controller.failure = null
  controller.mesh = { ...controller.mesh, trustDomain: 'other.internal' }
  const fourth = makeKeeper(settings)
  t.teardown(() => fourth.stop())
  await fourth.start()
  await until(fourth, () => fourth.problems.length > 0)
  t.same(codes(fourth), ['trust-domain-changed'])
  t.equal(fourth.mesh?.trustDomain, 'mesh.internal')
})

t.test(
  'a service’s certificate read from the disk in the middle of a rotation is renewed as soon as the host’s',
  async (t) => {
    const directory = testDirectory(t)
    const controller = await makeLocal(directory)
    const { clock, authority } = controller
    const settings = { controller, clock, state: `${directory}/agent` }
    const first = makeKeeper({ ...settings, token: 't' })
    first.want(new Set([orders]))
    await first.start()
    await until(first, () => first.credentials.length === 2)
    const before = serials(first)
    await first.stop()

    await authority.prepare()
    const file = new TrustFile({ logger }, { stateDirectory: settings.state })
    const trust = new TrustKeeper({ file, clock, logger })
    await trust.load({ trustDomain: authority.trustDomain, bundlePem: authority.anchorPem })
    t.ok(await activate(authority))
    const body = encodeTrust({ ...authority.bundleIn(authority.phase), spreadMs: 0 })
    const value = signRecord(authority.signer, { key: bundleKey, epoch: 2, body })
    await trust.offer([{ key: bundleKey, value }])

    const second = makeKeeper(settings)
    t.teardown(() => second.stop())
    second.want(new Set([orders]))
    await second.start()
    await until(second, () => serials(second).every((serial) => !before.includes(serial)))
    t.equal(second.credentials.length, 2)
  },
)

t.test(
  'an answer for another identity, another key or no certificate at all is not taken',
  async (t) => {
    const directory = testDirectory(t)
    const controller = await makeLocal(directory)
    const { clock } = controller
    const otherCsr = await makeCsr(await generateKey())
    const open = controller.open.bind(controller)
    type Issue = (session: ControllerSession, csr: Buffer) => Promise<Issued>
    const wrong: readonly (readonly [string, Issue, RegExp])[] = [
      ['identity', (session, csr) => session.renewHost(csr), /is for .*host\/h1/],
      ['service', (session, csr) => session.issueService(service('carts'), csr), /service\/carts/],
      ['key', (session) => session.issueService(orders, otherCsr), /another key/],
      [
        'nothing',
        async (session, csr) => ({ ...(await session.issueService(orders, csr)), chainPem: '' }),
        /cannot be read/,
      ],
    ]
    for (const [what, issue, message] of wrong) {
      const port: ControllerPort = {
        enrol: controller.enrol.bind(controller),
        open(file) {
          const session = open(file)
          return { ...session, issueService: (_name, csr) => issue(session, csr) }
        },
      }
      const state = `${directory}/${what}`
      const keeper = makeKeeper({ controller: port, clock, state, token: 't' })
      keeper.want(new Set([orders]))
      await keeper.start()
      await until(keeper, () => keeper.problems.length > 0)
      t.match(
        keeper.problems,
        [{ identity: 'orders', code: 'bad-controller-answer', message }],
        what,
      )
      t.equal(keeper.credentials.length, 1)
      await keeper.stop()
    }
  },
)

t.test('the end of a certificate is told when it comes, whatever else is due', async (t) => {
  const directory = testDirectory(t)
  const controller = await makeLocal(directory)
  const { clock } = controller
  const state = `${directory}/state`
  const before = makeKeeper({ controller, clock, state, token: 't' })
  await before.start()
  await until(before, () => before.host !== null)
  const laterMs = clock.now() + 600_000
  await turnUntil(clock, 60_000, () => clock.now() >= laterMs)
  before.want(new Set([orders]))
  await until(before, () => before.credentialOf(orders) !== null)
  const endMs = before.credentialOf(orders)?.notAfterMs ?? 0
  const hostEndMs = before.host?.notAfterMs ?? 0
  await before.stop()
  // The host's own has ended: nothing is asked of anybody, and its tries are far apart.
  await clock.advance(hostEndMs - clock.now())
  const workers = { workers: [], collect: () => Promise.resolve({ series: [] }) }
  const identity = new HostIdentity(
    { clock, random, logger, workers, publish: () => {} },
    { host, stateDirectory: state, controllers: ['127.0.0.1:1'], joinTokenFile: null },
  )
  const { keeper } = identity
  t.teardown(() => keeper.stop())
  const told: (readonly [number, string])[] = []
  keeper.onChange(() => {
    for (const one of identity.renewed()) told.push([clock.now(), one])
  })
  identity.want(new Set([orders]))
  await keeper.start()
  t.same(told, [[hostEndMs, 'orders']], 'it is there')
  t.ok(identity.isCertified(orders))
  await turnUntil(clock, 1000, () => clock.now() > endMs + 1000)
  t.same(told.slice(1), [[endMs, 'orders']], 'it has ended')
  t.notOk(identity.isCertified(orders))
})

t.test('stop ends a call under way', async (t) => {
  const directory = testDirectory(t)
  const running = await startController(directory)
  const token = await running.token()
  await running.stop()
  let asked = (): void => {}
  const under = new Promise<void>((resolve) => (asked = resolve))
  const controller: ControllerPort = {
    enrol: (_token, _csr, _host, signal) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(new Error('given up')))
        asked()
      }),
    open: () => {
      throw new Error('not enrolled')
    },
  }
  const keeper = makeKeeper({ controller, state: `${directory}/agent`, token })
  await keeper.start()
  await under
  await keeper.stop()
  t.equal(keeper.host, null)
})
