/** Holds atomic writes to leaving the old file or the new one, and nothing beside it. */

import { mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { writeFileAtomic, writeFileSynced } from '#shared/lifecycle/atomic-file.ts'
import { testDirectory } from '#test/support/test-directory.ts'

t.test('writeFileAtomic replaces a file whole, for its owner alone', async (t) => {
  const directory = testDirectory(t, { file: 'a longer old content' })
  await writeFileAtomic(`${directory}/file`, 'new')
  t.equal(readFileSync(`${directory}/file`, 'utf8'), 'new')
  t.equal(statSync(`${directory}/file`).mode & 0o777, 0o600)
  await writeFileAtomic(`${directory}/public`, Buffer.from('x'), { mode: 0o644 })
  t.equal(statSync(`${directory}/public`).mode & 0o777, 0o644)
  await writeFileAtomic(`${directory}/pieces`, ['one ', 'zwö ', 'three'])
  t.equal(readFileSync(`${directory}/pieces`, 'utf8'), 'one zwö three')
  t.same(readdirSync(directory).sort(), ['file', 'pieces', 'public'])
})

t.test('a write that fails leaves what was there and no temporary file', async (t) => {
  const directory = testDirectory(t, {})
  mkdirSync(`${directory}/taken`)
  writeFileSync(`${directory}/taken/inside`, 'x')
  await t.rejects(writeFileAtomic(`${directory}/taken`, 'new'))
  t.same(readdirSync(directory), ['taken'])
  await t.rejects(writeFileAtomic(`${directory}/absent/file`, 'new'), { code: 'ENOENT' })
})

t.test('writers at the same time leave one whole content', async (t) => {
  const directory = testDirectory(t, {})
  const contents = Array.from({ length: 20 }, (_, index) => String(index).repeat(10_000))
  await Promise.all(contents.map((content) => writeFileAtomic(`${directory}/file`, content)))
  t.ok(contents.includes(readFileSync(`${directory}/file`, 'utf8')))
  t.same(readdirSync(directory), ['file'])
})

t.test('writeFileSynced never replaces a file', async (t) => {
  const directory = testDirectory(t, { file: 'old' })
  await t.rejects(writeFileSynced(`${directory}/file`, 'new'), { code: 'EEXIST' })
  t.equal(readFileSync(`${directory}/file`, 'utf8'), 'old')
})
