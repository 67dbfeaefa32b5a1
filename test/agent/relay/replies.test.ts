import t from 'tap'
import { answers, writeReply } from '#agent/relay/replies.ts'
import type { Reason } from '#shared/model/reason.ts'

const settings = {
  reason: 'policy-denied',
  detail: 'rule “a”\r\nX: y',
  requestId: 'id1',
  connection: 'nothing',
  method: 'GET',
  accept: '*/*',
} as const

function split(text: string) {
  const at = text.indexOf('\r\n\r\n')
  return { head: text.slice(0, at).split('\r\n'), body: text.slice(at + 4) }
}

t.test('writeReply names reason, blame, detail and id, and lets no other line in', async (t) => {
  const { head, body } = split(writeReply(settings))
  t.same(head, [
    'HTTP/1.1 403 Forbidden',
    'content-type: application/json',
    `content-length: ${body.length}`,
    'x-mesh-reason: policy-denied',
    'x-request-id: id1',
  ])
  t.same(JSON.parse(body), {
    reason: 'policy-denied',
    blame: 'caller',
    detail: 'rule ?a???X: y',
    requestId: 'id1',
  })
})

t.test('writeReply writes text for readers', async (t) => {
  for (const accept of ['text/plain', 'text/html,application/xhtml+xml,*/*;q=0.8']) {
    const { head, body } = split(writeReply({ ...settings, accept }))
    t.ok(head.includes('content-type: text/plain'))
    t.ok(head.includes(`content-length: ${body.length}`))
    t.equal(body, 'policy-denied: rule ?a???X: y\nat fault: caller\nrequest: id1\n')
  }
  const { head } = split(writeReply({ ...settings, accept: 'application/json, text/plain, */*' }))
  t.ok(head.includes('content-type: application/json'))
})

t.test('writeReply gives HEAD the head alone, and says close where that is so', async (t) => {
  const { head, body } = split(writeReply({ ...settings, method: 'HEAD', connection: 'close' }))
  t.equal(body, '')
  t.equal(head.at(-1), 'connection: close')
})

t.test('every reason has its status and phrase', async (t) => {
  for (const reason of Object.keys(answers) as Reason[]) {
    const { status, phrase } = answers[reason]
    t.match(writeReply({ ...settings, reason }), `HTTP/1.1 ${status} ${phrase}\r\n`)
  }
})
