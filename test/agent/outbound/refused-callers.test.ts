import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { RefusedCallers, type RefusedCall } from '#agent/outbound/refused-callers.ts'
import { systemClock, type Clock } from '#shared/lifecycle/clock.ts'
import type { Outcome } from '#shared/model/outcome.ts'
import { call } from '#test/support/callers.ts'
import { logLines } from '#test/support/log-lines.ts'

// The clock's timers keep no process alive.
const alive = setInterval(() => {}, 60_000)
t.teardown(() => clearInterval(alive))

/** No time passes between two lines of the log, however slow the machine. */
const clock: Clock = { ...systemClock, elapsed: () => 0 }

const nobody = { service: null, destination: null, source: null }

async function refuseAll(t: Test, protocol: RefusedCall['protocol']) {
  const outcomes: Outcome[] = []
  const tallies: unknown[] = []
  const { logger, lines } = logLines()
  const refused = new RefusedCallers(
    {
      clock,
      logger,
      outcomes: { record: (outcome) => void outcomes.push(outcome) },
      counters: { tally: (_, labels) => void tallies.push(labels) },
    },
    { maxConnections: 7, lingerMs: 500 },
  )
  const server = createServer({ allowHalfOpen: true }, (socket) =>
    refused.refuse(socket, { ...nobody, protocol }),
  ).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => void server.close())
  const { port } = server.address() as AddressInfo
  const dial = (): Socket => connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  return { outcomes, tallies, lines, port, dial, server }
}

t.test('RefusedCallers tells an HTTP caller at once, before it has said anything', async (t) => {
  const { outcomes, tallies, lines, port, dial } = await refuseAll(t, 'http')
  const silent = dial()
  const answer = await text(silent)
  t.match(answer, /^HTTP\/1\.1 503 [^]*x-mesh-reason: overloaded\r\n[^]*maxConnections 7/)
  t.match(answer, /connection: close\r\n/)
  silent.destroy()
  t.match(await call({ host: '127.0.0.1', port, method: 'POST' }), {
    status: 503,
    headers: { 'x-mesh-reason': 'overloaded' },
    problem: '',
  })
  t.match(outcomes[0], { reason: 'overloaded', status: 503, protocol: 'http', attempts: 0 })
  t.same(tallies, [{ limit: 'maxConnections' }, { limit: 'maxConnections' }])
  t.equal(lines.length, 1, 'not a line for each')
})

t.test('RefusedCallers waits for nobody who does not go', async (t) => {
  const { dial, server } = await refuseAll(t, 'http')
  const staying = dial().on('error', () => {})
  const [socket] = (await once(server, 'connection')) as [Socket]
  if (!socket.destroyed) await once(socket, 'close')
  t.ok(socket.destroyed)
  staying.destroy()
})

t.test('RefusedCallers resets a raw connection', async (t) => {
  const { dial, outcomes } = await refuseAll(t, 'tcp')
  const [error] = (await once(dial().resume(), 'error')) as [NodeJS.ErrnoException]
  t.equal(error.code, 'ECONNRESET')
  t.match(outcomes, [{ reason: 'overloaded', status: 0, protocol: 'tcp' }])
})
