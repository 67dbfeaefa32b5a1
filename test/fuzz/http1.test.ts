import { METHODS } from 'node:http'
import t from 'tap'
import { BodyReader } from '#agent/http1/body.ts'
import { linesOf, type Section } from '#agent/http1/field-lines.ts'
import { headDefaults } from '#agent/http1/head-fault.ts'
import { HeadInput } from '#agent/http1/head-input.ts'
import { readRequestHead, readResponseHead } from '#agent/http1/head.ts'
import { FakeChannel } from '#test/support/fake-channel.ts'
import { cut, Dice, mutate } from '#test/support/mutations.ts'
import { judgeRequests, judgeResponse, type Understood } from '#test/support/node-parser.ts'
import { RelayRig } from '#test/support/relay-rig.ts'

// Seconds of work, but a crowded machine may take ten times as long.
t.setTimeout(600_000)

/** Cases in all; a quarter are responses. */
const cases = Number(process.env['HOSTMESH_FUZZ_CASES'] ?? 100_000)
const seed = Number(process.env['HOSTMESH_FUZZ_SEED'] ?? 1)

// prettier-ignore
const words = [
  '\r\n', '\r', '\n', '\0', ' ', '\t', ':', ',', ';', '\x0b', '\x7f', '\xa0', '\xff', '0', 'f',
  'Content-Length: 5', 'Content-Length: 0', 'content-length : 5', 'Content-Length: 5, 5',
  'Content-Length: +5', 'Content-Length: 05', 'Content_Length: 7', 'Content-Length:',
  'Transfer-Encoding: chunked', 'Transfer-Encoding: gzip, chunked', 'TRANSFER-ENCODING: CHUNKED',
  'Transfer-Encoding: identity', 'Transfer-Encoding: chunked\xa0', 'Transfer_Encoding: chunked',
  'Host: other', 'Host:', ' folded', '\tfolded', 'X-A: b', 'X-A : b', ': b',
  'X-Mesh-Source: evil', 'X.Mesh.Source: evil', 'X_Forwarded_For: evil', 'Content.Length: 9',
  'x-request-id:evil', 'Connection: close', 'Connection: keep-alive', 'Connection: X-A',
  'Connection: Content-Length', 'Connection: upgrade', 'Upgrade: h2c', 'Upgrade: websocket',
  'Expect: 100-continue', '5\r\nhello\r\n', '0\r\n\r\n', '0\r\nX-T: 1\r\n\r\n', 'Authorization:  evil', '5;a=b\r\n',
  '00005\r\n', '5 \r\n', '0x5\r\n', 'GET / HTTP/1.1', 'POST http://orders/ HTTP/1.1',
  'GET /a#b HTTP/1.0', 'HTTP/1.1 200 OK', 'HTTP/1.1 204 No', 'HTTP/1.1 103 Hint\r\n\r\n',
  'HTTP/1.0 200 OK', ' HTTP/1.1', 'HTTP/1.1 304 No',
]

const requests = [
  'GET / HTTP/1.1\r\nHost: orders\r\n\r\n',
  'GET http://orders/a?b=c HTTP/1.1\r\nHost: orders\r\nAccept: */*\r\n\r\n',
  'POST /p HTTP/1.1\r\nHost: orders\r\nContent-Length: 5\r\n\r\nhello',
  'PUT /c HTTP/1.1\r\nHost: orders\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n',
  'POST /t HTTP/1.1\r\nHost: orders\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-T: 1\r\nX-U:2\r\n\r\n',
  'HEAD /h HTTP/1.1\r\nHost: orders\r\nCookie: a=b\r\nUser-Agent: fuzz\r\n\r\n',
  'GET /k HTTP/1.0\r\nConnection: keep-alive\r\n\r\n',
  'OPTIONS * HTTP/1.1\r\nHost: orders\r\n\r\n',
  'DELETE /d HTTP/1.1\r\nHost: orders\r\nConnection: X-A\r\nX-A: 1\r\nX-B: 2\r\n\r\n',
]

const responses = [
  'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello',
  'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n',
  'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-T: 1\r\n\r\n',
  'HTTP/1.1 204 No Content\r\nDate: now\r\n\r\n',
  'HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n',
  'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n',
  'HTTP/1.0 200 OK\r\nServer: old\r\n\r\nuntil the end',
  'HTTP/1.1 500 Oops\r\nConnection: close\r\nContent-Length: 4\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\noops',
]

/** What must not be in a message that went through, whoever sent it. */
const taken =
  /^(?:connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|content-length|http2-settings|x-mesh-.*)$/
const takenFromCallers = /^(?:host|x-request-id|x-forwarded-.*|forwarded|x-real-ip)$/
/** Of the words above, what must not be in trailers either. */
const routing = /^(?:authorization|cookie|expect|set-cookie)$/

interface Accepted extends Understood {
  /** As it stands in the original, for a comparison of readings. */
  readonly original: string
  readonly isForwarded: boolean
}

/** Our own reading of a stream of requests, up to what ends it. */
function readRequests(text: string): Accepted[] {
  const input = new HeadInput(headDefaults)
  const body = new BodyReader(headDefaults)
  const accepted: Accepted[] = []
  input.push(Buffer.from(text, 'latin1'))
  for (;;) {
    if (!input.skipEmptyLine() || input.size === 0) return accepted
    const lines = input.takeHead()
    const head = typeof lines === 'string' ? readRequestHead(lines, headDefaults) : null
    if (head === null || head.kind === 'fault') return accepted
    body.begin(head.body)
    let content = ''
    if (body.open) {
      const piece = input.takeAll()
      const fed = piece === null ? 0 : body.feed(piece)
      if (typeof fed !== 'number' || body.open) return accepted
      content = body.content?.toString('latin1') ?? ''
      if (piece !== null && fed < piece.length) input.push(piece.subarray(fed))
    }
    const url = (lines as string).split(' ', 2)[1] ?? ''
    accepted.push({
      start: `${head.method} ${head.target}`,
      original: `${head.method} ${url}`,
      fields: allOf(lines as string),
      body: content,
      trailers: flat(body.trailers),
      isForwarded: head.method !== 'TRACE' && head.upgrade === '',
    })
    if (!head.keepAlive || head.upgrade !== '') return accepted
    if (head.method === 'TRACE' && head.body.kind !== 'none') return accepted
  }
}

/** The fields of a head, those included that `Connection` names. */
function allOf(head: string): string[] {
  return flat({ text: head, from: head.indexOf('\n') + 1 })
}

/** Names and values in turn, as Node gives them. */
function flat(fields: Section): string[] {
  return linesOf(fields).flat()
}

/** The fields of a message that are nobody's business on the way, sorted. */
function endToEnd(
  fields: readonly string[],
  nominated: ReadonlySet<string>,
  isRequest: boolean,
): string[] {
  const kept: string[] = []
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i] as string
    // As a service sees it that cannot tell such names apart.
    const plain = name.replace(/[^a-z0-9]/g, '-')
    if (taken.test(plain) || nominated.has(name)) continue
    if (isRequest && takenFromCallers.test(plain)) continue
    kept.push(`${name}: ${fields[i + 1]}`)
  }
  return kept
}

/** The trailers that may go on. */
function harmless(trailers: readonly string[], nominated: ReadonlySet<string>): string[] {
  const kept: string[] = []
  for (let i = 0; i < trailers.length; i += 2) {
    const name = trailers[i] as string
    const plain = name.replace(/[^a-z0-9]/g, '-')
    const isHarmful = taken.test(plain) || takenFromCallers.test(plain) || routing.test(plain)
    if (!isHarmful && !nominated.has(name)) kept.push(name, trailers[i + 1] as string)
  }
  return kept
}

function nominatedBy(fields: readonly string[]): Set<string> {
  const named = new Set<string>()
  for (let i = 0; i < fields.length; i += 2) {
    if (fields[i] !== 'connection') continue
    for (const name of (fields[i + 1] as string).toLowerCase().split(',')) named.add(name.trim())
  }
  return named
}

const known: ReadonlySet<string> = new Set(METHODS)
const nobody: ReadonlySet<string> = new Set()
const answer = 'HTTP/1.1 204 No Content\r\n\r\n'

async function rigFor(t: { readonly teardown: (run: () => void) => void }) {
  const channels: FakeChannel[] = []
  const rig = await RelayRig.start(t, { upstreams: [{ port: 1 }] })
  for (const upstream of rig.upstreams) {
    upstream.release = () => {}
    upstream.open = (opener) => {
      const channel = new FakeChannel()
      channels.push(channel)
      opener.onOpen(channel)
    }
  }
  return { rig, channels }
}

/** Plays a caller against a relay; answers what each channel to the service got whole. */
function playRequests(
  { rig, channels }: Awaited<ReturnType<typeof rigFor>>,
  pieces: readonly string[],
): string[] {
  channels.length = 0
  rig.outcomes.length = 0
  const caller = new FakeChannel()
  rig.relay(caller).start()
  for (const piece of pieces) caller.says(piece)
  const whole: string[] = []
  for (let next = channels[0], i = 0; next !== undefined; next = channels[++i]) {
    if (next.aborted) continue
    next.says(answer)
    if (!next.aborted) whole.push(next.heard)
  }
  caller.close(null)
  return whole
}

t.test(`requests that pass mean to Node what they mean to us (seed ${seed})`, async (t) => {
  const dice = new Dice(seed)
  const rig = await rigFor(t)
  let forwarded: { readonly text: string; readonly expected: Accepted; readonly from: string }[] =
    []
  let passed = 0
  let wrong = 0
  const complain = (what: string, from: string, details: unknown): void => {
    wrong++
    if (wrong <= 5) t.fail(what, { from: JSON.stringify(from), details })
  }

  /** Node reads everything that went through as one stream: any slip would shift the rest. */
  const judge = async (): Promise<void> => {
    const batch = forwarded
    forwarded = []
    const { messages, error } = await judgeRequests(batch.map(({ text }) => text).join(''))
    for (const [index, { text, expected, from }] of batch.entries()) {
      const seen = messages[index]
      const nominated = nominatedBy(expected.fields)
      const same =
        seen !== undefined &&
        seen.start === expected.start &&
        seen.body === expected.body &&
        endToEnd(seen.fields, nobody, true).join('\n') ===
          endToEnd(expected.fields, nominated, true).join('\n') &&
        seen.trailers.join('\n') === harmless(expected.trailers, nominated).join('\n')
      if (!same) {
        complain('Node reads otherwise', from, { text, seen, expected, error })
        return
      }
    }
    if (messages.length !== batch.length) complain('Node sees more', '', messages.at(-1))
    passed += batch.length
  }

  for (let i = 0; i < Math.ceil(cases * 0.75); i++) {
    let base = ''
    for (let count = 1 + dice.below(3); count > 0; count--) base += dice.of(requests)
    const text = mutate(base, words, dice)
    const whole = playRequests(rig, cut(text, dice))
    const accepted = readRequests(text)
    const expected = accepted.filter(({ isForwarded }) => isForwarded)
    if (whole.length !== expected.length) {
      complain('relay and codec disagree', text, { whole, expected })
      continue
    }
    for (const [index, one] of expected.entries()) {
      if (!known.has(one.start.split(' ', 1)[0] ?? '')) continue
      forwarded.push({ text: whole[index] ?? '', expected: one, from: text })
    }
    if (forwarded.length >= 200) await judge()
    // A strict service that got the very same bytes would not read them otherwise either.
    const { messages, error } = await judgeRequests(text)
    for (const [index, one] of accepted.entries()) {
      const seen = messages[index]
      if (seen === undefined) {
        const isStrange = error !== '' || !known.has(one.start.split(' ', 1)[0] ?? '')
        if (!isStrange) complain('Node misses a message', text, { messages, accepted })
        break
      }
      const same =
        seen.start === one.original &&
        seen.body === one.body &&
        seen.fields.join('\n') === one.fields.join('\n')
      if (!same) complain('Node reads the original otherwise', text, { seen, one })
    }
  }
  await judge()
  t.equal(wrong, 0)
  t.ok(passed > cases / 4, `${passed} messages passed`)
})

t.test(`responses that pass mean to Node what they mean to us (seed ${seed})`, async (t) => {
  const dice = new Dice(seed + 1)
  const { rig, channels } = await rigFor(t)
  let passed = 0
  let wrong = 0
  const complain = (what: string, from: string, details: unknown): void => {
    wrong++
    if (wrong <= 5) t.fail(what, { from: JSON.stringify(from), details })
  }
  for (let i = 0; i < Math.floor(cases * 0.25); i++) {
    const method = dice.of(['GET', 'GET', 'HEAD', 'POST'])
    const text = mutate(dice.of(responses), words, dice)
    channels.length = 0
    rig.outcomes.length = 0
    const caller = new FakeChannel()
    rig.relay(caller).start()
    caller.says(`${method} / HTTP/1.1\r\nHost: orders\r\n\r\n`)
    const [service] = channels
    if (service === undefined) throw new Error('no channel')
    for (const piece of cut(text, dice)) service.says(piece)
    if (!service.aborted) service.saysEnd()
    const [outcome] = rig.outcomes
    if (outcome === undefined) complain('no outcome', text, caller.heard)
    else if (outcome.reason === 'ok' && outcome.status !== 101) {
      const expected = readResponse(method, text)
      const { messages, error } = await judgeResponse(method, caller.heard)
      const seen = messages.at(-1)
      const same =
        seen !== undefined &&
        expected !== null &&
        error === '' &&
        seen.start === expected.start &&
        seen.body === expected.body &&
        endToEnd(seen.fields, nobody, false).join('\n') ===
          endToEnd(expected.fields, nominatedBy(expected.fields), false).join('\n')
      if (!same)
        complain('Node reads otherwise', text, { heard: caller.heard, seen, expected, error })
      passed++
    }
    caller.close(null)
  }
  t.equal(wrong, 0)
  t.ok(passed > cases / 20, `${passed} responses passed`)
})

/** Our own reading of a final response; null where there is none. */
function readResponse(method: string, text: string): Understood | null {
  const input = new HeadInput(headDefaults)
  input.push(Buffer.from(text, 'latin1'))
  for (;;) {
    const lines = input.takeHead()
    const head = typeof lines === 'string' ? readResponseHead(lines, method, headDefaults) : null
    if (head === null || head.kind === 'fault') return null
    if (head.status < 200) continue
    const body = new BodyReader(headDefaults)
    body.begin(head.body)
    const rest = input.takeAll()
    if (rest !== null) body.feed(rest)
    return {
      start: String(head.status),
      fields: allOf(lines as string),
      body: body.content?.toString('latin1') ?? '',
      trailers: flat(body.trailers),
    }
  }
}
