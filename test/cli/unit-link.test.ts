import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { AdminAnswers, AdminCommands, AdminSocket } from '#cli/client/admin-socket.ts'
import { Printer } from '#cli/output/printer.ts'
import { unitLink, unitList, unitUnlink } from '#cli/unit-link.ts'
import type { ManifestReport } from '#shared/model/admin-services.ts'
import { must, parseServiceName } from '#shared/model/names.ts'
import { healthyFacts } from '#test/support/agent-facts.ts'
import { testDirectory } from '#test/support/test-directory.ts'

const shop = must(parseServiceName('shop'))

/** A host whose manifest of `shop` names this unit. */
function hostOf(t: Test, unit = 'shop.service', active: readonly string[] = []) {
  const directory = testDirectory(t, {})
  const done: string[] = []
  const units = {
    has: (name: string) => name !== 'nowhere.service',
    isActive: (name: string) => active.includes(name),
    start: (names: readonly string[]) => void done.push(`start ${names.join(' ')}`),
    stop: (names: readonly string[]) => void done.push(`stop ${names.join(' ')}`),
    reload: () => void done.push('reload'),
  }
  const manifests = healthyFacts.manifests.map((one): ManifestReport => ({
    ...one,
    service: 'shop',
    unit,
  }))
  const agent: Pick<AdminSocket, 'ask' | 'tell'> = {
    ask: async <K extends keyof AdminAnswers>() => manifests as unknown as AdminAnswers[K],
    tell: async <K extends keyof AdminCommands>(what: K, input: AdminCommands[K]['input']) => {
      done.push(`${what} ${JSON.stringify(input)}`)
      return { services: [] } as AdminCommands[K]['answer']
    },
  }
  const out: string[] = []
  const streams = { out: (text: string) => void out.push(text), err: () => {} }
  const parts = { agent, units, printer: new Printer({ streams }, { json: false }) }
  const settings = { isRoot: true, directory, service: shop }
  const link = (given: { readonly unit?: string; readonly strict?: boolean } = {}) =>
    unitLink(parts, { ...settings, unit: given.unit ?? null, strict: given.strict ?? false })
  const unlink = (isRoot = true) => unitUnlink(parts, { ...settings, isRoot })
  const list = () => unitList(parts, { directory })
  const file = (name = 'shop.service') => join(directory, `${name}.d/hostmesh-shop.conf`)
  return { link, unlink, list, file, done, directory, out: () => out.splice(0).join('') }
}

t.test('link writes one drop-in, and leaves alone what is so already', async (t) => {
  const { link, file, done, out } = hostOf(t)
  t.equal(await link(), 0)
  const text = readFileSync(file(), 'utf8')
  t.match(text, /^Wants=mesh-wait@shop\.service\nAfter=mesh-wait@shop\.service$/m)
  t.match(
    text,
    /^Before=mesh-rotation@shop\.service\nPropagatesStopTo=mesh-rotation@shop\.service$/m,
  )
  t.same(done.splice(0), ['reload'])
  t.match(out(), /shop\.service waits for what shop requires/)
  t.equal(await link(), 0)
  t.same(done, [], 'systemd is not bothered')
  t.match(out(), /linked already/)
  t.equal(await link({ strict: true }), 0)
  t.match(readFileSync(file(), 'utf8'), /^Requires=mesh-wait@shop\.service$/m)
})

t.test('link follows a service to another unit, and counts for one that runs', async (t) => {
  const { link, file, done, list, out } = hostOf(t, 'shop.service', ['shop.service'])
  await link({ unit: 'former.service' })
  t.ok(existsSync(file('former.service')))
  await link()
  t.notOk(existsSync(join(file('former.service'), '..')), 'its directory, too')
  t.same(done, ['reload', 'reload', 'start mesh-rotation@shop.service'])
  out()
  t.equal(list(), 0)
  t.match(out(), /shop\.service +shop +yes/)
})

t.test('unlink takes away its own file only, and where there is none it is well', async (t) => {
  const { link, unlink, file, done, list, out } = hostOf(t)
  t.equal(await unlink(), 0)
  t.same(done, [])
  await link()
  const other = join(file(), '../own.conf')
  writeFileSync(other, '[Unit]\n')
  done.splice(0)
  t.equal(await unlink(), 0)
  t.notOk(existsSync(file()))
  t.ok(existsSync(other))
  t.same(done, [
    'reload',
    'stop mesh-rotation@shop.service',
    'rotation {"target":"shop","withdrawn":false,"reason":"its unit stops"}',
  ])
  out()
  list()
  t.match(out(), /no unit is linked/)
})

t.test('link refuses what it cannot link, in one line, and changes nothing', async (t) => {
  const { link, unlink, done } = hostOf(t, '')
  await t.rejects(link(), { code: 'not-linked', hint: /--unit/ })
  for (const unit of ['nowhere.service', 'mesh-agent.service', '../x.service', 'shop.socket', '']) {
    await t.rejects(link({ unit }), { message: /there is no unit/ })
  }
  await t.rejects(unlink(false), { message: /needs root/ })
  t.same(done, [])
})
