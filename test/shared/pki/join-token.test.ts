/** Holds the spelling of join tokens to one form. */

import { randomBytes } from 'node:crypto'
import t from 'tap'
import { formatJoinToken, hashSecret, parseJoinToken } from '#shared/pki/join-token.ts'

const token = { id: 'abcdefgh-_012345', secret: randomBytes(32), rootHash: randomBytes(32) }
const text = formatJoinToken(token)

t.test(
  'parseJoinToken reads what formatJoinToken writes, white space around it apart',
  async (t) => {
    t.same(parseJoinToken(text), { ok: true, value: token })
    t.same(parseJoinToken(` ${text}\n`), { ok: true, value: token })
  },
)

t.test('parseJoinToken refuses everything else without quoting it', async (t) => {
  const [name = '', id = '', secret = '', hash = ''] = text.split('.')
  const wrong = [
    '',
    'hmjoin1',
    'hello',
    `hmjoin2.${id}.${secret}.${hash}`,
    `HMJOIN1.${id}.${secret}.${hash}`,
    `${name}.${id}.${secret}`,
    `${name}.${id}.${secret}.`,
    `${name}.${id}.${secret}.${hash}.x`,
    `${name}.${id}.${secret}.${hash}=`,
    `${name}.${id}.${secret.slice(1)}.${hash}`,
    `${name}.${id}x.${secret}.${hash}`,
    `${name}.../../hosts/h.${secret}.${hash}`,
    `${name}.${id}.${secret.slice(0, -1)}/.${hash}`,
    `${name}.${id}.${secret} .${hash}`,
    `${text}\n${text}`,
    // The last character holds two spare bits; only one spelling of them is ours.
    `${name}.${id}.${secret}.${'A'.repeat(42)}B`,
  ]
  for (const one of wrong) {
    const parsed = parseJoinToken(one)
    t.equal(parsed.ok, false, one.slice(0, 12))
    t.notMatch(parsed.ok ? '' : parsed.problem, secret.slice(0, 20))
  }
})

t.test('hashSecret tells nothing of the secret but fits it', async (t) => {
  t.equal(hashSecret(token.secret), hashSecret(Buffer.from(token.secret)))
  t.not(hashSecret(token.secret), hashSecret(randomBytes(32)))
})
