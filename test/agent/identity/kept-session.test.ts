/** Holds the kept session to its word, with a clock that the test turns. */

import t from 'tap'
import type { ControllerSession } from '#agent/identity/controller-port.ts'
import type { HostFile } from '#agent/identity/identity-files.ts'
import { KeptSession } from '#agent/identity/kept-session.ts'
import { FakeClock } from '#test/support/fake-clock.ts'

const never = (): Promise<never> => Promise.reject(new Error('not called here'))

/** As far as sessions depend on it. */
function hostFile(serial: string, controllers: readonly string[] = []): HostFile {
  return { credential: { serial }, mesh: { controllers }, tokenId: null } as unknown as HostFile
}

function makeKept(): {
  readonly kept: KeptSession
  readonly clock: FakeClock
  readonly closed: Set<ControllerSession>
} {
  const clock = new FakeClock()
  const closed = new Set<ControllerSession>()
  const open = (): ControllerSession => {
    const session: ControllerSession = {
      describeMesh: never,
      renewHost: never,
      issueService: never,
      close: () => void closed.add(session),
    }
    return session
  }
  return { kept: new KeptSession({ controller: { open }, clock }), clock, closed }
}

t.test('KeptSession keeps one session for as long as it says the same', async (t) => {
  const { kept, closed } = makeKept()
  const first = kept.take(hostFile('1'))
  t.equal(kept.take(hostFile('1')), first)
  const renewed = kept.take(hostFile('2'))
  t.not(renewed, first)
  t.ok(closed.has(first), 'of a credential that was replaced')
  const moved = kept.take(hostFile('2', ['b:1']))
  t.not(moved, renewed)
  kept.expire()
  t.notOk(closed.has(moved), 'a call under way goes on')
  t.not(kept.take(hostFile('2', ['b:1'])), moved)
  t.ok(closed.has(moved), 'of a trust that was replaced')
})

t.test('KeptSession closes a session nobody has used for a while', async (t) => {
  const { kept, clock, closed } = makeKept()
  const session = kept.take(hostFile('1'))
  await clock.advance(60_000)
  t.notOk(closed.has(session), 'it is in use')
  t.equal(kept.take(hostFile('1')), session)
  kept.rest()
  await clock.advance(20_000)
  kept.hold()
  kept.rest()
  await clock.advance(9000)
  t.notOk(closed.has(session))
  await clock.advance(1000)
  t.ok(closed.has(session), 'to hold it is not to use it')
  t.not(kept.take(hostFile('1')), session)
})
