import t from 'tap'
import { askHostFacts } from '#agent/registration/host-facts.ts'
import { must } from '#shared/model/names.ts'
import { decodePresence, encodeRecord } from '#shared/schema/records.ts'
import { presenceOf } from '#test/support/mesh-records.ts'

t.test('askHostFacts tells what the machine is, fit for its record', async (t) => {
  const facts = await askHostFacts()
  t.match(facts, { kernel: /^\d+\./, arch: /./, memoryMiB: /^\d+$/, cpus: /^\d+$/ })
  const record = presenceOf('a', { facts })
  t.strictSame(must(decodePresence(encodeRecord(record))), record)
})
