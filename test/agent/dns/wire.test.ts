import dnsPacket from 'dns-packet'
import { array, assert, nat, property, tuple, uint8Array } from 'fast-check'
import t from 'tap'
import {
  answersTo,
  datagramLimit,
  readQuery,
  responseCodes,
  timeToLive,
  writeResponse,
  type Answer,
  type Query,
} from '#agent/dns/wire.ts'

function question(name: string, more: Partial<dnsPacket.Packet> = {}): Buffer {
  return dnsPacket.encode({
    type: 'query',
    id: 7,
    flags: dnsPacket.RECURSION_DESIRED,
    questions: [{ type: 'A', name }],
    ...more,
  })
}

function read(message: Buffer): Query {
  const reading = readQuery(message)
  if (reading.kind !== 'query') throw new Error(reading.kind)
  return reading.query
}

const edns = (udpPayloadSize: number): Answer => ({
  type: 'OPT',
  name: '.',
  udpPayloadSize,
  extendedRcode: 0,
  ednsVersion: 0,
  flags: 0,
  flag_do: false,
  options: [],
})

const said = {
  code: 0,
  authoritative: true,
  answers: [],
  authorities: [],
  additionals: [],
} as const

t.test('readQuery reads a question, and keeps how it was spelt', async (t) => {
  const query = read(question('Orders.MESH'))
  t.match(query, { id: 7, asked: 'Orders.MESH', name: 'orders.mesh', type: 'A', edns: null })
  t.ok(query.recursionDesired)
})

t.test('readQuery refuses what is no single question, and is silent to responses', async (t) => {
  const kind = (message: Buffer): unknown => {
    const reading = readQuery(message)
    return reading.kind === 'refused' ? reading.code : reading.kind
  }
  t.equal(kind(Buffer.alloc(11)), 'noise')
  t.equal(kind(dnsPacket.encode({ type: 'response', id: 1, questions: [] })), 'noise')
  t.equal(kind(dnsPacket.encode({ type: 'query', questions: [] })), responseCodes.formatError)
  const two = [{ type: 'A', name: 'a.mesh' } as const, { type: 'A', name: 'b.mesh' } as const]
  t.equal(kind(question('', { questions: two })), responseCodes.formatError)
  t.equal(kind(question('a', { flags: 4 << 11 })), responseCodes.notImplemented)
  t.equal(
    kind(question('a', { questions: [{ type: 'A', name: 'a', class: 'CH' }] })),
    responseCodes.refused,
  )
  t.equal(kind(question('a', { additionals: [edns(512), edns(512)] })), responseCodes.formatError)
  t.equal(kind(question('orders.mesh').subarray(0, 20)), responseCodes.formatError)
})

t.test('readQuery takes a dot within a label for no dot between labels', async (t) => {
  const message = question('orders.mesh')
  message[12] = 'orders.mesh'.length
  message[12 + 7] = '.'.charCodeAt(0)
  t.equal(read(message).name, null)
})

t.test('writeResponse truncates what does not fit, and says so', async (t) => {
  const answers = Array.from({ length: 60 }, (_, i): Answer => ({
    type: 'A',
    name: 'orders.mesh',
    ttl: 1,
    data: `240.240.0.${i}`,
  }))
  const query = read(question('orders.mesh'))
  t.equal(datagramLimit(query), 512)
  const cut = dnsPacket.decode(writeResponse(query, { ...said, answers }, 512))
  t.match(cut, { id: 7, flag_tc: true, flag_aa: true, flag_ra: true, flag_rd: true, answers: [] })
  const whole = dnsPacket.decode(writeResponse(query, { ...said, answers }, 65_535))
  t.equal(whole.answers?.length, 60)
  t.match(whole.questions, [{ name: 'orders.mesh', type: 'A' }])
})

t.test('writeResponse speaks EDNS where it was spoken to in EDNS', async (t) => {
  const query = read(question('orders.mesh', { additionals: [edns(9000)] }))
  t.equal(datagramLimit(query), 1232)
  t.equal(datagramLimit(read(question('a', { additionals: [edns(100)] }))), 512)
  const response = { ...said, code: responseCodes.badVersion }
  t.match(dnsPacket.decode(writeResponse(query, response, 512)), {
    rcode: 'NOERROR',
    additionals: [{ type: 'OPT', extendedRcode: 1, udpPayloadSize: 1232 }],
  })
})

t.test('answersTo knows the answer to a question by id, kind and question', async (t) => {
  const query = read(question('orders.example'))
  const answer = writeResponse(query, said, 512)
  t.ok(answersTo(answer, 7, query.question))
  t.notOk(answersTo(answer, 8, query.question))
  t.notOk(answersTo(question('orders.example'), 7, query.question), 'a question is no answer')
  t.notOk(answersTo(answer, 7, read(question('others.example')).question))
  t.notOk(answersTo(Buffer.alloc(12), 7, query.question))
})

t.test(
  'timeToLive is the shortest of all records, and none for what may not be kept',
  async (t) => {
    const query = read(question('a.example'))
    const record = (ttl: number): Answer => ({
      type: 'A',
      name: 'a.example',
      ttl,
      data: '192.0.2.1',
    })
    const write = (more: object): Buffer => writeResponse(query, { ...said, ...more }, 512)
    t.equal(timeToLive(write({ answers: [record(60), record(9)] })), 9)
    t.equal(timeToLive(write({})), null)
    t.equal(timeToLive(write({ code: 2, answers: [record(60)] })), null)
  },
)

t.test('readQuery survives whatever arrives', async (t) => {
  const good = question('_orders._tcp.mesh', { additionals: [edns(1232)] })
  const kinds = new Set<string>()
  const feed = (message: Buffer): void => {
    const reading = readQuery(message)
    kinds.add(reading.kind)
    if (reading.kind === 'query') writeResponse(reading.query, said, 512)
    timeToLive(Buffer.concat([message, Buffer.alloc(12)]))
  }
  assert(
    property(uint8Array({ maxLength: 600 }), (bytes) => feed(Buffer.from(bytes))),
    {
      numRuns: 5000,
      seed: 1,
    },
  )
  const change = tuple(nat(good.length - 1), nat(255))
  assert(
    property(array(change, { minLength: 1, maxLength: 8 }), nat(good.length), (all, cut) => {
      const message = Buffer.from(good)
      for (const [at, value] of all) message[at] = value
      feed(message)
      feed(message.subarray(0, cut))
    }),
    { numRuns: 20_000, seed: 2 },
  )
  t.same([...kinds].sort(), ['noise', 'query', 'refused'])
})
