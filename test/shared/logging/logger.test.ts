import t from 'tap'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import { createLogger, type Logger } from '#shared/logging/logger.ts'

function logInto(lines: string[]): Logger {
  return createLogger({
    name: 'mesh-test',
    level: 'debug',
    destination: { write: (line: string) => void lines.push(line) },
  })
}

void t.test('a line is one JSON object with level name, time, program and component', async (t) => {
  const lines: string[] = []
  logInto(lines).child({ component: 'manifests' }).warn({ file: 'orders.json' }, 'rejected')
  t.equal(lines.length, 1)
  t.match(JSON.parse(lines[0] ?? ''), {
    level: 'warn',
    time: /^\d{4}-\d\d-\d\dT.*Z$/,
    name: 'mesh-test',
    component: 'manifests',
    file: 'orders.json',
    msg: 'rejected',
  })
})

void t.test('a MeshError keeps its code, hint and cause', async (t) => {
  const lines: string[] = []
  const cause = new Error('ECONNREFUSED')
  const err = new MeshError('no store', { code: 'store-away', hint: 'start etcd', cause })
  logInto(lines).error({ err }, 'away')
  t.match(JSON.parse(lines[0] ?? ''), {
    err: {
      code: 'store-away',
      hint: 'start etcd',
      message: 'no store',
      cause: { message: /ECONN/ },
    },
  })
})

void t.test('a key that names a secret has its value struck out at any depth', async (t) => {
  const values = [
    'hush',
    'with "quotes" and \\ in it: hush',
    ['hush', 'a]b', 'hush'],
    { hush: 'hush', note: 'a}b"' },
  ]
  for (const key of ['token', 'joinToken', 'secret', 'keyPem', 'authorization', 'Set-Cookie']) {
    for (const value of values) {
      const lines: string[] = []
      const logger = logInto(lines)
      logger.info({ [key]: value, after: 1 }, 'top')
      logger.info({ a: { b: [{ c: { [key]: value } }] }, after: 1 }, 'deep')
      logger.child({ [key]: value, after: 1 }).info('child')
      for (const line of lines) {
        t.notMatch(line, 'hush')
        t.match(JSON.parse(line), { after: 1 }, `${key} leaves the rest of the line whole`)
      }
    }
  }
})

void t.test('private keys and join tokens inside texts are struck out', async (t) => {
  const lines: string[] = []
  const pem = '-----BEGIN PRIVATE KEY-----\nhush\n-----END PRIVATE KEY-----\n'
  logInto(lines).error({ err: new Error(`cannot read ${pem} here`) }, `bad hmjoin1.id.hush-_.ab12`)
  logInto(lines).info({ half: '-----BEGIN EC PRIVATE KEY-----\nhush', after: 1 }, 'cut short')
  for (const line of lines) t.notMatch(line, 'hush')
  t.match(JSON.parse(lines[0] ?? ''), { err: { message: 'cannot read [redacted]\n here' } })
  t.match(JSON.parse(lines[1] ?? ''), { half: '[redacted]', after: 1 })
})

void t.test('text that only speaks of tokens is left alone', async (t) => {
  const lines: string[] = []
  logInto(lines).info({ note: '{"token":"x"}', tokens: 3 }, 'the token expired')
  t.match(JSON.parse(lines[0] ?? ''), {
    note: '{"token":"x"}',
    tokens: 3,
    msg: 'the token expired',
  })
})
