import t from 'tap'
import { FileRecord } from '#agent/manifests/file-record.ts'
import type { FileLook, FileVersion } from '#agent/manifests/manifest-file.ts'
import { readManifest } from '#shared/schema/manifest.ts'

const gone: FileLook = { kind: 'gone' }
const now = 1_000_000

function version(text: string, mtimeMs = now): FileVersion {
  const reading = readManifest('/m/a.json', Buffer.from(text))
  return { path: '/m/a.json', stamp: 's', hash: text, mtimeMs, text, reading }
}

const read = (text: string, mtimeMs?: number): FileLook => ({
  kind: 'read',
  version: version(text, mtimeMs),
})

t.test('a good version counts at once', async (t) => {
  const record = new FileRecord(null)
  t.equal(record.see(read('{"port": 1}'), now, 0), 'keep')
  t.equal(record.version?.hash, '{"port": 1}')
  t.equal(record.stamp, 's')
})

t.test('a fresh bad version is looked at again before it counts', async (t) => {
  const record = new FileRecord(null)
  record.see(read('{"port": 1}'), now, 0)
  t.equal(record.see(read('{"por'), now, 1000), 'again')
  t.equal(record.stamp, '', 'so that it is read again')
  t.equal(record.version?.hash, '{"port": 1}', 'the version before it stands')
  t.equal(record.see(read('{"por'), now, 1199), 'again')
  t.equal(record.see(read('{"por'), now, 1200), 'keep')
  t.equal(record.version?.hash, '{"por')
})

t.test('a write that ends well in time was never bad', async (t) => {
  const record = new FileRecord(null)
  t.equal(record.see(read(''), now, 0), 'again')
  t.equal(record.see(read('{"port"'), now, 150), 'again')
  t.equal(record.see(read('{"port": 2}'), now, 300), 'keep')
  t.equal(record.version?.reading.ok, true)
})

t.test('an old bad version counts at once', async (t) => {
  const record = new FileRecord(null)
  t.equal(record.see(read('{', now - 200), now, 0), 'keep')
  t.equal(record.version?.hash, '{')
})

t.test('a file that never comes to rest is believed in the end', async (t) => {
  const record = new FileRecord(null)
  let looks = 0
  while (record.see(read(`{${looks}`), now, looks * 100) === 'again') looks += 1
  t.equal(looks, 20)
})

t.test('a missing file is forgotten only when it stays away', async (t) => {
  const record = new FileRecord(null)
  record.see(read('{"port": 1}'), now, 0)
  t.equal(record.see(gone, now, 1000), 'again')
  t.equal(record.see(read('{"port": 1}'), now, 1100), 'keep')
  t.equal(record.see(gone, now, 1150), 'again')
  t.equal(record.see(gone, now, 1349), 'again')
  t.equal(record.see(gone, now, 1350), 'forget')
})

t.test('a touch is no new version', async (t) => {
  const record = new FileRecord(null)
  record.see(read('{"port": 1}'), now, 0)
  const before = record.version?.reading
  record.see(read('{"port": 1}', now + 5), now, 100)
  t.equal(record.version?.reading, before)
  t.equal(record.version?.mtimeMs, now + 5)
})
