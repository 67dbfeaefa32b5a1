import t from 'tap'
import { caRotate } from '#cli/ca.ts'
import { Printer } from '#cli/output/printer.ts'
import { systemClock } from '#shared/lifecycle/clock.ts'
import type { ControllerClient } from '#shared/rpc/controller-client.ts'
import type { RotationStatus } from '#shared/rpc/operator-messages.ts'

const steady: RotationStatus = {
  phase: 'steady',
  sinceMs: 1,
  bundleEpoch: 4,
  roots: [],
  waitsFor: [],
  hostsLive: 2,
  hostsReady: 2,
}

t.test('ca rotate ends once no live host trusts the old root any more', async (t) => {
  const story: readonly RotationStatus[] = [
    { ...steady, phase: 'distributing', waitsFor: [{ host: 'h1', why: 'it is slow' }] },
    { ...steady, phase: 'reissuing' },
    { ...steady, hostsReady: 1 },
    steady,
  ]
  let asked = 0
  const controller = {
    call: async () => story[asked++] ?? steady,
    close() {},
  } as unknown as ControllerClient
  const notes: string[] = []
  const streams = { out: () => {}, err: (text: string) => void notes.push(text) }
  const printer = new Printer({ streams }, { json: false })
  // Nobody is waited for in a test.
  const clock = { ...systemClock, after: (_: number, run: () => void) => systemClock.after(0, run) }
  const parts = { connect: async () => controller, printer, clock }
  // The clock's timers keep no process alive.
  const alive = setInterval(() => {}, 1000)
  t.teardown(() => clearInterval(alive))
  t.equal(await caRotate(parts, { follow: true }), 0)
  t.equal(asked, story.length)
  t.match(notes.join(''), /h1 \(it is slow\)[^]*1 of 2 live hosts trust the old root still/)
})
