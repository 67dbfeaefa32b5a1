import { connect, createServer, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { ConnectedWorker } from '#agent/workers/connected-worker.ts'
import { LineSocket } from '#agent/workers/line-socket.ts'
import { shortDir } from '#test/support/short-dir.ts'
import { until } from '#test/support/until.ts'

/** Both ends of a unix socket. */
async function ends(t: Test): Promise<{ readonly near: Socket; readonly far: Socket }> {
  const path = `${shortDir(t)}/socket`
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(path, resolve))
  const accepted = new Promise<Socket>((resolve) => server.once('connection', resolve))
  const near = connect(path)
  const far = await accepted
  t.teardown(() => {
    near.destroy()
    far.destroy()
    server.close()
  })
  return { near, far }
}

t.test(
  'a reader that was slow for a moment hears what waited, however little that was',
  async (t) => {
    const { near, far } = await ends(t)
    near.pause()
    const worker = new ConnectedWorker(far)
    // Lines that are small: the last one waits, and never goes beyond the socket's high-water mark.
    let sent = 0
    while (worker.line.backlog === 0) worker.line.send({ kind: 'collect', request: ++sent })
    t.ok(worker.line.backlog < far.writableHighWaterMark)
    worker.outbox.put('trust', () => LineSocket.encode({ kind: 'trust' }))
    worker.outbox.put('snapshot', () => LineSocket.encode({ kind: 'snapshot' }))
    const heard: string[] = []
    new LineSocket<{ readonly kind: string }, never>(near).handle(
      ({ kind }) => heard.push(kind),
      () => {},
    )
    near.resume()
    await until('what waited is heard', () => heard.length === sent + 2)
    t.strictSame(heard.slice(-2), ['trust', 'snapshot'])
    worker.outbox.put('capture', () => LineSocket.encode({ kind: 'capture' }))
    await until('what comes later is heard at once', () => heard.at(-1) === 'capture')
  },
)
