import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { AdminAnswers } from '#cli/client/admin-socket.ts'
import { names } from '#cli/names.ts'
import { setUpNames } from '#cli/names-setup.ts'
import { Printer } from '#cli/output/printer.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { CaptureReport } from '#shared/model/admin-capture.ts'
import { healthyFacts } from '#test/support/agent-facts.ts'
import { testDirectory } from '#test/support/test-directory.ts'

const on = { kind: 'on' } as const

function host(t: Test, files: { readonly resolvConf: string; readonly config?: object }) {
  const directory = testDirectory(t, {
    'resolv.conf': files.resolvConf,
    'agent.json': JSON.stringify(files.config ?? {}),
  })
  const restarted: string[] = []
  const notes: string[] = []
  return {
    restarted,
    notes,
    parts: {
      units: { restart: (unit: string) => void restarted.push(unit) },
      note: (line: string) => void notes.push(line),
    },
    settings: {
      configPath: join(directory, 'agent.json'),
      resolvConf: join(directory, 'resolv.conf'),
      dropIn: join(directory, 'resolved.conf.d/hostmesh.conf'),
    },
  }
}

/** Parts of `meshctl names` where this is captured; what it prints is JSON. */
function namesParts(kind: CaptureReport['kind'], restarted: string[]) {
  const status = {
    ...healthyFacts.status,
    capture: { ...healthyFacts.status.capture, kind },
  }
  const agent = {
    ask: async <K extends keyof AdminAnswers>() => status as unknown as AdminAnswers[K],
  }
  let said = ''
  const streams = { out: (text: string) => void (said = text), err: () => {} }
  const units = { restart: (unit: string) => void restarted.push(unit) }
  const printer = new Printer({ streams }, { json: true })
  return { parts: { agent, units, printer }, out: () => said }
}

t.test('setUpNames tells systemd-resolved where programs ask it, once', async (t) => {
  const resolvConf = '# stub\nnameserver 127.0.0.53\nsearch example.org\n'
  const { parts, settings, restarted, notes } = host(t, { resolvConf })
  await setUpNames(parts, on, settings)
  await setUpNames(parts, on, settings)
  t.match(readFileSync(settings.dropIn, 'utf8'), /^DNS=127\.0\.0\.1:15053\nDomains=~mesh\n$/m)
  t.same(restarted, ['systemd-resolved.service'])
  t.match(notes, [/^programs find names as orders\.mesh by systemd-resolved/])
  writeFileSync(settings.configPath, '{"listen": {"dns": "[::1]:5353"}}')
  await setUpNames(parts, on, settings)
  t.match(readFileSync(settings.dropIn, 'utf8'), /^DNS=\[::1\]:5353$/m)
  t.equal(restarted.length, 2)
})

t.test('names tells whether programs find them, and sees to it where it is told to', async (t) => {
  const { settings, restarted } = host(t, { resolvConf: 'nameserver 127.0.0.53\n' })
  const { parts, out } = namesParts('on', restarted)
  const asked = { ...settings, setUp: false, isRoot: false }
  t.equal(await names(parts, asked), 1)
  t.match(out(), /"state": ?"untold"/)
  await t.rejects(names(parts, { ...asked, setUp: true }), { message: /needs root/ })
  t.equal(await names(parts, { ...asked, setUp: true, isRoot: true }), 0)
  t.match(out(), /"state": ?"told"/)
  t.equal(await names(parts, asked), 0)
  t.same(restarted, ['systemd-resolved.service'])
  const elsewhere = host(t, { resolvConf: 'nameserver 192.0.2.1\n' })
  t.equal(await names(parts, { ...asked, ...elsewhere.settings, setUp: true, isRoot: true }), 1)
  t.match(out(), /"state": ?"elsewhere"/)
  const off = namesParts('off', restarted)
  t.equal(await names(off.parts, asked), 0)
  t.match(off.out(), /"state": ?"off"/)
})

t.test(
  'names tells of servers for all links, which are asked for names of the mesh too',
  async (t) => {
    const { parts, settings, notes, restarted } = host(t, { resolvConf: 'nameserver 127.0.0.53\n' })
    await setUpNames(parts, on, settings)
    const asked = { ...settings, setUp: false, isRoot: false }
    const { parts: looking, out } = namesParts('on', restarted)
    const site = join(settings.dropIn, '../site.conf')
    writeFileSync(site, '[Resolve]\n#DNS=192.0.2.1\nDNS=\nDomains=example.org\n')
    t.equal(await names(looking, asked), 0)
    writeFileSync(site, '[Resolve]\nDNS = 192.0.2.1\n')
    t.equal(await names(looking, asked), 1)
    t.match(out(), /"state": ?"mixed"/)
    writeFileSync(settings.configPath, '{"listen": {"dns": "127.0.0.1:5353"}}')
    await setUpNames(parts, on, settings)
    t.match(
      notes.at(-1),
      /may not find names as orders\.mesh: .*site\.conf gives .* give them to the link/,
    )
  },
)

t.test('setUpNames leaves other resolvers alone, and says so', async (t) => {
  const { parts, settings, restarted, notes } = host(t, { resolvConf: 'nameserver 192.0.2.1\n' })
  await setUpNames(parts, on, settings)
  t.notOk(existsSync(settings.dropIn))
  t.same(restarted, [])
  t.match(notes, [/do not find names as orders\.mesh yet: .*resolv\.conf does not lead to/])
})

t.test('setUpNames says what went wrong, and fails nothing', async (t) => {
  const { parts, settings, notes } = host(t, { resolvConf: 'nameserver 127.0.0.53\n' })
  const restart = (): never => {
    throw new MeshError('cannot start systemd-resolved.service: masked', { code: 'unit-failed' })
  }
  await setUpNames({ ...parts, units: { restart } }, on, settings)
  t.match(notes, [/yet: cannot start systemd-resolved\.service: masked/])
  writeFileSync(settings.configPath, '{')
  await setUpNames(parts, on, settings)
  t.match(notes[1], /do not find names as orders\.mesh yet: .*JSON/)
})

t.test('setUpNames does nothing where names would lead nowhere', async (t) => {
  const { parts, settings, notes } = host(t, { resolvConf: 'nameserver 127.0.0.53\n' })
  await setUpNames(parts, { kind: 'off' }, settings)
  t.notOk(existsSync(settings.dropIn))
  t.same(notes, [])
})
