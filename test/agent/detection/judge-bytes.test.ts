import t from 'tap'
import { isEnough, judgeAnswer } from '#agent/detection/judge-bytes.ts'

const judge = (text: string) => judgeAnswer(Buffer.from(text, 'latin1'))

t.test('judgeAnswer knows HTTP/1, HTTP/2, TLS and others by their first bytes', async (t) => {
  const cases = [
    ['HTTP/1.1 200 OK\r\n\r\n', { speech: 'http/1.1' }],
    ['HTTP/1.0 405 Not Allowed\r\nServer: x\r\n\r\n', { speech: 'http/1.1' }],
    ['HTTP/1.1 400 Bad Request\r\n\r\n', { speech: 'maybe-tls' }],
    ['HTTP/1.1 501 Unsupported\r\nConnection: close\r\n\r\n', { speech: 'http/1.1' }],
    [
      'HTTP/1.1 204 N\r\nKeep-Alive: timeout=5, max=100\r\n\r\n',
      { speech: 'http/1.1', keepAliveMs: 5000 },
    ],
    [
      'HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n',
      { speech: 'maybe-tls' },
    ],
    ['\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64', { speech: 'http/2' }],
    ['\x15\x03\x01\0\x02\x02\x46', { speech: 'maybe-tls' }],
    ['', { speech: 'maybe-tls' }],
    ['-ERR unknown command', { speech: 'tcp' }],
    ['HTTP/2 200', { speech: 'tcp' }],
    ['\0\0\x12\x04\0\0\0\0\x01', { speech: 'tcp' }],
  ] as const
  for (const [text, expected] of cases) t.strictSame(judge(text), expected, JSON.stringify(text))
})

t.test('isEnough waits for the head of an answer, and for nothing else', async (t) => {
  const enough = (text: string) => isEnough(Buffer.from(text, 'latin1'))
  t.notOk(enough(''))
  t.notOk(enough('HTTP'))
  t.notOk(enough('HTTP/1.1 200 OK\r\nServer: x\r\n'))
  t.ok(enough('HTTP/1.1 200 OK\r\nServer: x\r\n\r\n'))
  t.ok(enough('-ERR'))
  t.ok(enough('\0\0\0\x04\0\0\0\0\0'))
})
