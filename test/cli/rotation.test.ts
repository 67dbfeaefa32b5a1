import { join } from 'node:path'
import t, { type Test } from 'tap'
import { AdminServer } from '#agent/admin/admin-server.ts'
import { AdminSocket } from '#cli/client/admin-socket.ts'
import { Printer } from '#cli/output/printer.ts'
import { drain, maintenance, undrain } from '#cli/rotation.ts'
import { systemClock } from '#shared/lifecycle/clock.ts'
import { createLogger } from '#shared/logging/logger.ts'
import type { ManifestReport } from '#shared/model/admin-services.ts'
import type { RotationWish } from '#shared/model/admin-wishes.ts'
import { healthyFacts } from '#test/support/agent-facts.ts'
import { shortDir } from '#test/support/short-dir.ts'

/** An agent whose service `web` is gone after it was looked at three times. */
async function agentOf(t: Test) {
  const socketPath = join(shortDir(t), 'agent.sock')
  const wishes: RotationWish[] = []
  let looks = 0
  const host = { sinceMs: healthyFacts.status.nowMs - 65_000, reason: 'new disk' }
  const server = new AdminServer(
    {
      source: {
        status: () => ({ ...healthyFacts.status, maintenance: wishes.length > 0 ? host : null }),
        services: () => [],
        external: () => [],
        manifests: () => {
          looks += 1
          const rotation = looks < 3 ? 'leaving' : 'out'
          return healthyFacts.manifests.map((one): ManifestReport => ({ ...one, rotation }))
        },
        certificates: () => [],
        policies: () => healthyFacts.policies,
        machine: () => healthyFacts.machine,
        generations: async () => [],
        explain: () => ({ kind: 'bad-question', problem: 'none' }),
        explainCapture: async () => ({ kind: 'bad-question', problem: 'none' }),
      },
      logger: createLogger({ name: 'test', level: 'silent' }),
      commands: {
        rotation: (input) => {
          wishes.push(input as RotationWish)
          return { kind: 'done', value: { services: ['web'] } }
        },
      },
    },
    { socketPath },
  )
  await server.start()
  t.teardown(() => server.stop())
  const out: string[] = []
  const streams = { out: (text: string) => void out.push(text), err: () => {} }
  const agent = new AdminSocket({ socketPath })
  const parts = { agent, clock: systemClock, printer: new Printer({ streams }, { json: false }) }
  return { parts, wishes, out: () => out.join('') }
}

t.test('drain says when a service may be stopped, and only then', async (t) => {
  const { parts, wishes, out } = await agentOf(t)
  const wish = { target: 'web', reason: 'new disk' }
  t.equal(await drain(parts, { ...wish, waitMs: 0 }), 0)
  t.match(out(), /leaving: web; meshctl drain --wait/)
  t.equal(await drain(parts, { ...wish, waitMs: 1 }), 1)
  t.match(out(), /still reached: web/)
  t.equal(await drain(parts, { ...wish, waitMs: 60_000 }), 0)
  t.match(out(), /nothing reaches it: web/)
  t.match(wishes, [{ ...wish, withdrawn: true }])
})

t.test('maintenance is about the agent’s own host', async (t) => {
  const { parts, wishes, out } = await agentOf(t)
  const more = { reason: 'new disk', waitMs: 0 }
  t.equal(await maintenance(parts, { wish: 'status', ...more }), 0)
  t.equal(await maintenance(parts, { wish: 'on', ...more }), 0)
  t.equal(await maintenance(parts, { wish: 'status', ...more }), 0)
  t.equal(await maintenance(parts, { wish: 'off', ...more }), 0)
  t.equal(await undrain(parts, { target: 'web' }), 0)
  t.match(out(), /alpha is in rotation\n[^]*out of rotation for 1 min 5 s: new disk\n/)
  t.match(wishes, [
    { target: 'alpha', kind: 'host', withdrawn: true, reason: 'new disk' },
    { target: 'alpha', kind: 'host', withdrawn: false },
    { target: 'web', withdrawn: false },
  ])
})
