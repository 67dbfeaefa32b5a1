import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import type { ServiceUnits } from '#cli/client/service-units.ts'
import { holdsAll, preflight, writeMissing } from '#cli/preflight.ts'

const units: ServiceUnits = {
  running: true,
  has: (unit) => unit !== 'absent.service',
  isActive: () => false,
  enable: () => {},
}
const nothing = { isRoot: true, files: {}, units: [], ports: [] }

t.test('preflight finds everything that is in the way, at once', async (t) => {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, resolve))
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const file = join(t.testdir({ 'agent.json': '{"controller": "else:1"}' }), 'agent.json')
  const found = await preflight(
    { units },
    {
      isRoot: false,
      files: { [file]: '{"controller": "here:1"}' },
      units: ['absent.service', 'present.service'],
      ports: [{ unit: 'present.service', port }],
    },
  )
  t.match(found, [/needs root/, /no unit absent\.service/, /agent\.json is there/, /port \d+ is/])
  t.match(await preflight({ units: { ...units, running: false } }, nothing), [/systemd/])
  t.same(await preflight({ units }, nothing), [])
})

t.test('holdsAll lets a config set more than it must, and nothing else', async (t) => {
  const wanted = '{"controller": "10.0.0.1:15010", "host": "a"}'
  t.ok(holdsAll('{"host":"a", "zone":"z", "controller":"10.0.0.1:15010"}', wanted))
  for (const text of ['{"host":"a"}', '{"controller":"10.0.0.1:15010","host":"b"}', 'null', '{']) {
    t.notOk(holdsAll(text, wanted), text)
  }
})

t.test('writeMissing keeps what is there', async (t) => {
  const dir = t.testdir({ 'a.json': 'mine' })
  const [there, missing] = [join(dir, 'a.json'), join(dir, 'b.json')]
  await writeMissing({ [there]: 'theirs', [missing]: 'new' })
  t.equal(readFileSync(there, 'utf8'), 'mine')
  t.equal(readFileSync(missing, 'utf8'), 'new')
  writeFileSync(missing, 'changed')
  await writeMissing({ [missing]: 'new' })
  t.equal(readFileSync(missing, 'utf8'), 'changed')
  t.ok(existsSync(there))
})
