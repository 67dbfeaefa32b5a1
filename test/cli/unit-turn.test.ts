import t from 'tap'
import type { AdminAnswers, AdminCommands, AdminSocket } from '#cli/client/admin-socket.ts'
import { Printer } from '#cli/output/printer.ts'
import { unitEnter, unitLeave, unitWait } from '#cli/unit-turn.ts'
import { systemClock } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { ManifestReport } from '#shared/model/admin-services.ts'
import { must, parseServiceName } from '#shared/model/names.ts'
import type { WhyAnswer, WhyQuestion } from '#shared/model/why.ts'
import { healthyFacts } from '#test/support/agent-facts.ts'

const service = must(parseServiceName('shop'))
const settings = { service, waitMs: 60_000 }

/** An agent with a manifest of `shop`, that may be late; `stock` can be called when `stock()` says so. */
function agentOf(given: {
  readonly isLate?: () => boolean
  readonly stock?: () => boolean
  readonly manifest?: Partial<ManifestReport>
  readonly refuses?: boolean
  readonly active?: readonly string[]
  readonly stoppedWith?: readonly string[] | null
}) {
  const told: unknown[] = []
  const [base] = healthyFacts.manifests
  const manifest = { ...base, service, requires: ['stock'], rotation: 'out', ...given.manifest }
  const agent = {
    ask: async <K extends keyof AdminAnswers>() => {
      if (given.isLate?.() === true) {
        throw new MeshError('no agent answers', { code: 'agent-unreachable' })
      }
      return [manifest] as unknown as AdminAnswers[K]
    },
    tell: async <K extends keyof AdminCommands>(what: K, input: AdminCommands[K]['input']) => {
      told.push(input)
      if (what === 'why') return answerOf(input as WhyQuestion, given.stock?.() ?? true)
      if (given.refuses) throw new MeshError('still out', { code: 'agent-refused' })
      return { services: [service] } as unknown as AdminCommands[K]['answer']
    },
  } as unknown as AdminSocket
  const said: string[] = []
  const take = (text: string) => void said.push(text)
  const printer = new Printer({ streams: { out: take, err: take } }, { json: false })
  const units = {
    isActive: (unit: string) => given.active?.includes(unit) ?? false,
    stoppedWith: () => given.stoppedWith ?? null,
  }
  return { parts: { agent, units, printer, clock: systemClock }, told, said: () => said.join('') }
}

function answerOf({ service: to, caller = '' }: WhyQuestion, works: boolean): WhyAnswer {
  const step = { name: 'service', finding: `no instance of ${to} is in rotation`, fix: '' }
  return {
    service: to,
    caller,
    verdict: works ? 'works' : 'broken',
    steps: [
      { ...step, verdict: works ? 'ok' : 'failed', cause: works ? '' : 'no host offers one' },
    ],
  }
}

t.test('wait asks as the service, until what it requires can be called', async (t) => {
  let asked = 0
  const { parts, told, said } = agentOf({ stock: () => (asked += 1) > 1 })
  t.equal(await unitWait(parts, settings), 0)
  t.same(told[0], { service: 'stock', caller: 'shop' })
  t.match(said(), /waiting: stock: no instance of stock is in rotation \(no host offers one\)/)
  t.match(said(), /everything that shop requires can be called/)
})

t.test('wait bears an agent that is late, and ends when time is over', async (t) => {
  let looks = 0
  const late = agentOf({ isLate: () => (looks += 1) === 1 })
  t.equal(await unitWait(late.parts, settings), 0)
  t.match(late.said(), /waiting: no agent answers/)
  const never = agentOf({ stock: () => false })
  t.equal(await unitWait(never.parts, { service, waitMs: 0 }), 1)
  t.match(never.said(), /shop has waited long enough: stock: no instance/)
})

t.test('enter puts back what the unit took out, and nothing else', async (t) => {
  const { parts, told } = agentOf({})
  t.equal(await unitEnter(parts, settings), 0)
  t.same(told, [{ target: 'shop', withdrawn: false, reason: 'its unit stops' }])
  const maintained = agentOf({ refuses: true })
  t.equal(await unitEnter(maintained.parts, settings), 0, 'the host is out of rotation: no fault')
  t.match(maintained.said(), /still out/)
  const caller = agentOf({ manifest: { health: 'none' } })
  t.equal(await unitEnter(caller.parts, settings), 0)
  t.same(caller.told, [])
})

t.test('leave drains while the unit runs, and only then', async (t) => {
  const linked = { stoppedWith: ['shop.service'] }
  const runs = agentOf({ ...linked, active: ['shop.service'] })
  t.equal(await unitLeave(runs.parts, settings), 0)
  t.same(runs.told, [{ target: 'shop', withdrawn: true, reason: 'its unit stops' }])
  for (const stoppedWith of [['shop.service'], []]) {
    const { parts, told, said } = agentOf({ stoppedWith })
    t.equal(await unitLeave(parts, settings), 0)
    t.same(told, [])
    t.match(said(), /nothing to drain/)
  }
  const untold = agentOf({ stoppedWith: null })
  t.equal(await unitLeave(untold.parts, settings), 0)
  t.equal(untold.told.length, 1, 'systemd does not tell: rather drained than cut')
})

t.test('leave keeps no unit from stopping where nobody can be asked', async (t) => {
  const { parts, said } = agentOf({ isLate: () => true, stoppedWith: null })
  t.equal(await unitLeave(parts, settings), 3)
  t.match(said(), /shop is not drained: no agent answers/)
})
