import * as fc from 'fast-check'
import t from 'tap'
import { type HeaderField, headerField } from '#agent/http2/header-field.ts'
import { HpackDecoder } from '#agent/http2/hpack-decoder.ts'
import { HpackEncoder } from '#agent/http2/hpack-encoder.ts'
import { huffmanBytes, huffmanDecode, huffmanEncode } from '#agent/http2/hpack-huffman.ts'

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(/\s/g, ''), 'hex')
const lines = (fields: readonly HeaderField[]): string[] =>
  fields.map(({ name, value }) => `${name}: ${value}`)
const fieldsOf = (list: readonly string[]): HeaderField[] =>
  list.map((line) => {
    const [name = '', ...value] = line.split(': ')
    return headerField(name, value.join(': '))
  })

function decoded(decoder: HpackDecoder, block: Buffer): string[] {
  const result = decoder.decode(block)
  if (result.kind !== 'fields') throw new Error(JSON.stringify(result))
  return lines(result.fields)
}

const first = [':method: GET', ':scheme: http', ':path: /', ':authority: www.example.com']
const second = [...first, 'cache-control: no-cache']
const third = [
  ':method: GET',
  ':scheme: https',
  ':path: /index.html',
  ':authority: www.example.com',
  'custom-key: custom-value',
]
const date = 'Mon, 21 Oct 2013 20:13:2'
const moved = (status: string): string[] => [
  `:status: ${status}`,
  'cache-control: private',
  `date: ${date}1 GMT`,
  'location: https://www.example.com',
]
const found = [
  ':status: 200',
  'cache-control: private',
  `date: ${date}2 GMT`,
  'location: https://www.example.com',
  'content-encoding: gzip',
  'set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1',
]

/** RFC 7541 appendix C: blocks of one connection, what they hold and how large the table then is. */
const examples: Record<string, readonly (readonly [string, readonly string[], number])[]> = {
  'C.2.1': [
    [
      '400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572',
      ['custom-key: custom-header'],
      55,
    ],
  ],
  'C.2.2': [['040c 2f73 616d 706c 652f 7061 7468', [':path: /sample/path'], 0]],
  'C.2.3': [['1008 7061 7373 776f 7264 0673 6563 7265 74', ['password: secret'], 0]],
  'C.2.4': [['82', [':method: GET'], 0]],
  'C.3': [
    ['8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d', first, 57],
    ['8286 84be 5808 6e6f 2d63 6163 6865', second, 110],
    ['8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65', third, 164],
  ],
  'C.4': [
    ['8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff', first, 57],
    ['8286 84be 5886 a8eb 1064 9cbf', second, 110],
    ['8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf', third, 164],
  ],
  'C.5': [
    [
      `4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a
       3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d`,
      moved('302'),
      222,
    ],
    ['4803 3330 37c1 c0bf', moved('307'), 222],
    [
      `88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04
       677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49
       553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31`,
      found,
      215,
    ],
  ],
  'C.6': [
    [
      `4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e
       919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3`,
      moved('302'),
      222,
    ],
    ['4883 640e ffc1 c0bf', moved('307'), 222],
    [
      `88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7
       821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed
       4ee5 b106 3d50 07`,
      found,
      215,
    ],
  ],
}

t.test('HpackDecoder reads every example of RFC 7541 appendix C', async (t) => {
  for (const [name, blocks] of Object.entries(examples)) {
    const maxTableBytes = name >= 'C.5' ? 256 : 4096
    const decoder = new HpackDecoder({ maxTableBytes, maxListBytes: 16_384 })
    for (const [block, fields, tableBytes] of blocks) {
      t.same(decoded(decoder, hex(block)), fields, name)
      t.equal(decoder.tableBytes, tableBytes, `${name}: size of the table`)
    }
  }
})

t.test('HpackDecoder remembers which fields must never be indexed', async (t) => {
  const result = new HpackDecoder().decode(hex(examples['C.2.3']?.[0]?.[0] ?? ''))
  t.same(result, { kind: 'fields', fields: [headerField('password', 'secret', true)] })
})

t.test('HpackEncoder writes the requests of appendix C.4 as the RFC does', async (t) => {
  const encoder = new HpackEncoder()
  for (const [block, fields] of examples['C.4'] ?? []) {
    t.equal(encoder.encode(fieldsOf(fields)).toString('hex'), hex(block).toString('hex'))
  }
})

t.test(
  'HpackEncoder tells the smallest table since the last block, then the present one',
  async (t) => {
    const encoder = new HpackEncoder()
    const block = (): string => encoder.encode([headerField(':method', 'GET')]).toString('hex')
    encoder.setPeerTableBytes(100)
    encoder.setPeerTableBytes(200)
    t.equal(block(), '3f453fa90182')
    t.equal(block(), '82')
    encoder.setPeerTableBytes(0)
    t.equal(block(), '2082')
  },
)

t.test('HpackEncoder keeps secrets out of the table, and marks them', async (t) => {
  const encoder = new HpackEncoder()
  const block = encoder.encode([headerField('authorization', 'x')])
  t.equal((block[0] as number) & 0xf0, 0x10)
  t.equal((encoder.encode([headerField('token', 'x', true)])[0] as number) & 0xf0, 0x10)
})

t.test('HpackEncoder says a repeated CONNECT in two bytes', async (t) => {
  const encoder = new HpackEncoder()
  const fields = [headerField(':method', 'CONNECT'), headerField(':authority', 'i1.orders.mesh:1')]
  t.ok(encoder.encode(fields).length > 2)
  t.equal(encoder.encode(fields).length, 2)
})

t.test('HpackEncoder refuses text that is not Latin-1', async (t) => {
  t.throws(() => new HpackEncoder().encode([headerField('x', '\u{1F600}')]), /Latin-1/)
})

const latin1 = fc.string({
  unit: fc.integer({ min: 0, max: 255 }).map((n) => String.fromCharCode(n)),
})
const someFields = fc.array(
  fc.tuple(
    fc.oneof(fc.constantFrom('a', 'b', ':path', 'date', 'cookie', 'x-long-name'), latin1),
    fc.oneof(fc.constantFrom('1', '2', '3', 'GET', '/'), latin1),
    fc.boolean(),
  ),
  { maxLength: 12 },
)

t.test(
  'HpackDecoder reads whatever HpackEncoder writes, through any change of table size',
  async () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(someFields, fc.option(fc.nat({ max: 4096 }))), { maxLength: 20 }),
        (blocks) => {
          const encoder = new HpackEncoder()
          const decoder = new HpackDecoder({ maxTableBytes: 4096, maxListBytes: 1 << 20 })
          for (const [list, size] of blocks) {
            if (size !== null) {
              encoder.setPeerTableBytes(size)
              encoder.setPeerTableBytes(4096 - size)
            }
            const fields = list.map(([name, value, secret]) => headerField(name, value, secret))
            const block = Buffer.from(encoder.encode(fields))
            const expected = lines(fields)
            if (JSON.stringify(decoded(decoder, block)) !== JSON.stringify(expected)) return false
            if (decoder.tableBytes > 4096) return false
          }
          return true
        },
      ),
      { seed: 7541, numRuns: 300 },
    )
  },
)

const broken: Readonly<Record<string, string>> = {
  'index 0': '80',
  'an index beyond both tables': 'be',
  'a name index beyond both tables': '7e 01 61',
  'an integer cut short': 'ff',
  'an integer without end': 'ff ff ff ff ff ff ff 7f',
  'a string cut short': '40 0a 61',
  'a string without length': '40',
  'a value that is missing': '40 01 61',
  'Huffman padding of eight bits': '40 82 1f ff 01 61',
  'Huffman padding of zeros': '40 81 18 01 61',
  'the Huffman code of EOS': '40 84 ff ff ff ff 01 61',
  'a table larger than announced': '3f e2 1f',
  'a table size after a field': '82 20',
}

t.test('HpackDecoder refuses what is not HPACK', async (t) => {
  for (const [name, block] of Object.entries(broken)) {
    t.equal(new HpackDecoder().decode(hex(block)).kind, 'broken', name)
  }
})

t.test('HpackDecoder stops at the limit of the list, however small the block', async (t) => {
  const decoder = new HpackDecoder({ maxTableBytes: 4096, maxListBytes: 16_384 })
  const entry = Buffer.concat([hex('40 01 61 7f 81 0f'), Buffer.alloc(2048, 0x62)])
  t.equal(decoder.decode(entry).kind, 'fields')
  t.equal(decoder.decode(Buffer.alloc(8, 0xbe)).kind, 'too-large')
  t.equal(decoder.decode(Buffer.alloc(4, 0xbe)).kind, 'fields')
})

t.test('huffmanDecode undoes huffmanEncode for any bytes', async () => {
  const packed = Buffer.alloc(4096)
  const plain = Buffer.alloc(8192)
  fc.assert(
    fc.property(latin1, (text) => {
      const end = huffmanEncode(text, packed, 0)
      const length = huffmanDecode(packed, 0, end, plain)
      return end === huffmanBytes(text) && plain.toString('latin1', 0, length) === text
    }),
    { seed: 1, numRuns: 2000 },
  )
})
