import t from 'tap'
import { askHttp } from '#agent/why/ask-http.ts'
import { FakeChannel } from '#test/support/fake-channel.ts'
import { FakeClock } from '#test/support/fake-clock.ts'

const request = { method: 'GET', path: '/x', host: 'orders.mesh' }

function ask() {
  const channel = new FakeChannel()
  const clock = new FakeClock()
  return { channel, clock, answer: askHttp({ channel, clock }, request) }
}

t.test('askHttp sends one request and reads the head of the answer', async (t) => {
  const { channel, answer } = ask()
  t.match(channel.heard, /^GET \/x HTTP\/1\.1\r\nhost: orders\.mesh\r\n[^]*\r\n\r\n$/)
  channel.says('HTTP/1.1 204 No Con')
  channel.says('tent\r\ndate: x\r\n\r\n')
  t.same(await answer, { kind: 'answered', status: 204, reason: '', detail: '' })
  t.equal(channel.aborted, true)
})

t.test('askHttp reads what the mesh says in a refusal', async (t) => {
  const { channel, answer } = ask()
  const body = JSON.stringify({ reason: 'policy-denied', detail: 'no-admin (a.json:6)' })
  const head = `HTTP/1.1 403 Forbidden\r\nX-Mesh-Reason: policy-denied\r\ncontent-length: ${body.length}\r\n\r\n`
  channel.says(head)
  channel.says(body.slice(0, 9))
  channel.says(body.slice(9))
  const detail = 'no-admin (a.json:6)'
  t.same(await answer, { kind: 'answered', status: 403, reason: 'policy-denied', detail })
})

t.test('askHttp tells of silence, closing and nonsense', async (t) => {
  const silent = ask()
  await silent.clock.advance(5000)
  t.match(await silent.answer, { kind: 'silent', detail: /5 s/ })
  const closed = ask()
  closed.channel.close({ code: 'ECONNRESET', message: 'reset' })
  t.match(await closed.answer, { kind: 'silent', detail: 'reset' })
  const ended = ask()
  ended.channel.says('SSH-2.0-x\r\n\r\n')
  t.match(await ended.answer, { kind: 'silent' })
  const endless = ask()
  endless.channel.says('x'.repeat(70_000))
  t.match(await endless.answer, { kind: 'silent', detail: /too long/ })
})
