import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { setUpNames } from '#cli/names-setup.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'

const on = { kind: 'on' } as const

function host(t: Test, files: { readonly resolvConf: string; readonly config?: object }) {
  const directory = t.testdir({
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
