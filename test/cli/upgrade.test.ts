import t from 'tap'
import type { AdminAnswers, AdminSocket } from '#cli/client/admin-socket.ts'
import type { ServiceUnits } from '#cli/client/service-units.ts'
import { Printer } from '#cli/output/printer.ts'
import { upgrade } from '#cli/upgrade.ts'
import { systemClock } from '#shared/lifecycle/clock.ts'
import { MeshError } from '#shared/lifecycle/mesh-error.ts'
import type { GenerationReport } from '#shared/model/admin-workers.ts'
import { healthyFacts } from '#test/support/agent-facts.ts'

function generation(number: number, phase: GenerationReport['phase'], open = 0): GenerationReport {
  return {
    generation: number,
    phase,
    versions: [`1.${number}.0`],
    protocols: [2],
    startedAtMs: 1,
    untilMs: phase === 'retiring' ? Date.UTC(2026, 0, 2) : 0,
    workers: [{ index: 0, pid: 100 + number, open }],
  }
}

/** A host whose units do what `starts` says, with an agent that hears of it. */
function hostWith(
  before: readonly GenerationReport[],
  starts: 'well' | 'not' | 'never-ready',
  control: 'comes back' | 'ends' = 'comes back',
) {
  let generations = before
  let comesBack = (): void => {}
  let isLost = false
  const done: string[] = []
  const active = new Set(before.map(({ generation: number }) => number))
  const units: ServiceUnits = {
    running: true,
    has: () => true,
    isActive(unit) {
      const number = /^mesh-proxy@(\d+)-/.exec(unit)?.[1]
      return number === undefined || active.has(Number(number))
    },
    isLost: (unit) => isLost && unit === 'mesh-agent.service',
    stoppedWith: () => [],
    reload: () => {},
    lastWords: (unit) => `${unit} said why`,
    enable: () => {},
    start(names) {
      done.push(`start ${names.join(' ')}`)
      if (starts === 'not') throw new MeshError('Job failed.', { code: 'unit-failed' })
      const number = Number(/@(\d+)-/.exec(names[0] ?? '')?.[1])
      active.add(number)
      const older = before.map((one) => ({ ...one, phase: 'retiring' as const }))
      generations =
        starts === 'well'
          ? [generation(number, 'live'), ...older]
          : [generation(number, 'standby'), ...before]
    },
    restart(unit) {
      done.push(`restart ${unit}`)
      isLost = control === 'ends'
      // Workers of the former generation come back to a new control process a moment later.
      const all = generations
      generations = all.slice(0, 1)
      comesBack = () => void (generations = all)
    },
    stop: (names) => void done.push(`stop ${names.join(' ')}`),
  }
  const agent: Pick<AdminSocket, 'ask'> = {
    ask: async <K extends keyof AdminAnswers>(what: K) => {
      if (isLost) throw new MeshError('nobody answers', { code: 'agent-unreachable' })
      if (what === 'generations') return generations as unknown as AdminAnswers[K]
      const [worker] = healthyFacts.status.workers
      const workers = generations.map((one) => ({ ...worker, generation: one.generation }))
      comesBack()
      return { ...healthyFacts.status, workers } as unknown as AdminAnswers[K]
    },
  }
  let said = ''
  const streams = { out: (text: string) => void (said += text), err: () => {} }
  const printer = new Printer({ streams }, { json: false })
  const run = (isRoot = true, patienceMs = 500): Promise<number> =>
    upgrade({ agent, units, printer, clock: systemClock }, { isRoot, patienceMs })
  /** As after a start of the control process: workers come later than somebody asks. */
  const hearLate = (): void => {
    const all = generations
    generations = all.slice(1)
    setTimeout(() => void (generations = all), 250)
  }
  return { run, done, hearLate, said: () => said }
}

t.test('upgrade starts workers, waits for them, and then the control process', async (t) => {
  const { run, done, said } = hostWith([generation(4, 'live', 12)], 'well')
  t.equal(await run(), 0)
  t.same(done, ['start mesh-proxy@5-0.service', 'restart mesh-agent.service'])
  t.match(said(), /generation 5 \(version 1\.5\.0\): live\ngeneration 4 .*: retiring, finishes 12/)
})

t.test('upgrade takes back what does not start, and tells who serves', async (t) => {
  for (const starts of ['not', 'never-ready'] as const) {
    const { run, done } = hostWith([generation(1, 'live')], starts)
    const why = /mesh-proxy@2-0\.service said why; generation 1 \(version 1\.1\.0\) serves on/
    await t.rejects(run(), { code: 'not-upgraded', message: why })
    t.same(done, ['start mesh-proxy@2-0.service', 'stop mesh-proxy@2-0.service'])
  }
})

t.test('upgrade waits no longer once the new control process has ended for good', async (t) => {
  const { run } = hostWith([generation(1, 'live')], 'well', 'ends')
  const anHourMs = 3_600_000
  await t.rejects(run(true, anHourMs), {
    code: 'not-upgraded',
    message: /control process .* does not get ready: mesh-agent\.service said why/,
  })
})

t.test('upgrade refuses a fourth generation, naming who holds the oldest', async (t) => {
  const before = [generation(3, 'live'), generation(2, 'retiring'), generation(1, 'retiring', 7)]
  const { run, done } = hostWith(before, 'well')
  await t.rejects(run(), {
    message: /oldest, 1, still carries 7/,
    hint: /2026-01-02.*stop mesh-proxy@1-0/,
  })
  t.same(done, [])
})

t.test('upgrade needs root', async (t) => {
  const { run, done } = hostWith([generation(1, 'live')], 'well')
  await t.rejects(run(false), { message: /needs root/ })
  t.same(done, [])
})

t.test('upgrade takes no number of workers that run and are not heard of yet', async (t) => {
  const former = [generation(2, 'live'), generation(1, 'retiring', 3)]
  const { run, done, hearLate } = hostWith(former, 'well')
  hearLate()
  t.equal(await run(), 0)
  t.same(done, ['start mesh-proxy@3-0.service', 'restart mesh-agent.service'])
})
