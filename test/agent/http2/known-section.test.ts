import t from 'tap'
import { headerField } from '#agent/http2/header-field.ts'
import { judgeRequest } from '#agent/http2/header-rules.ts'
import { KnownSection } from '#agent/http2/known-section.ts'

const connect = headerField(':method', 'CONNECT')
const authority = headerField(':authority', '1.orders.mesh:80')

t.test('KnownSection judges the same fields once, and any others anew', async (t) => {
  let judged = 0
  const known = new KnownSection((fields) => {
    judged++
    return judgeRequest(fields)
  })
  const first = known.judge([connect, authority])
  t.equal(known.judge([connect, authority]), first)
  t.equal(judged, 1)
  t.match(known.judge([connect, headerField(':authority', '2.orders.mesh:80')]), {
    head: { authority: '2.orders.mesh:80' },
  })
  t.match(known.judge([connect]), { ok: false })
  t.match(known.judge([connect, authority]), { head: { authority: '1.orders.mesh:80' } })
  t.equal(judged, 4)
})

t.test('KnownSection keeps no section that is long, or that was refused', async (t) => {
  let judged = 0
  const known = new KnownSection((fields) => {
    judged++
    return judgeRequest(fields)
  })
  const long = [connect, authority, ...Array.from({ length: 7 }, () => headerField('x', 'y'))]
  for (const fields of [long, long, [], []]) known.judge(fields)
  t.equal(judged, 4)
})

t.test('KnownSection takes no section of another length or order for the same', async (t) => {
  const known = new KnownSection(judgeRequest)
  const extra = headerField('x', 'y')
  t.match(known.judge([connect, authority, extra]), { ok: true })
  t.match(known.judge([connect, authority]), { head: { fields: [] } })
  t.match(known.judge([connect, extra, authority]), { ok: false })
  t.match(known.judge([connect, extra, authority]), { ok: false })
})
