/** The rules of a root rotation, and what a crash at any byte of any of its steps leaves behind. */

import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { Authority } from '#controller/ca/authority.ts'
import type { HostFacts, Phase, RotationFacts, SlotId } from '#controller/ca/rotation.ts'
import {
  aborted,
  activated,
  issuingSlot,
  leavingSlot,
  nextStep,
  prepared,
  retired,
  trustedSlots,
} from '#controller/ca/rotation.ts'
import { systemClock as clock, systemRandom as random } from '#shared/lifecycle/clock.ts'
import { createLogger } from '#shared/logging/logger.ts'
import { must, parseTrustDomain } from '#shared/model/names.ts'
import { abort, activate, retire } from '#test/support/root-steps.ts'
import { testDirectory } from '#test/support/test-directory.ts'

const logger = createLogger({ name: 'test', level: 'silent' })
const trustDomain = must(parseTrustDomain('mesh.internal'))
const [one, two] = ['1', '2'] as unknown as readonly [SlotId, SlotId]
const steady: Phase = { kind: 'steady', current: one }
const distributing: Phase = { kind: 'distributing', current: one, next: two, sinceMs: 1000 }
const both = { current: one, next: two, sinceMs: 2000 } as const
const forward: Phase = { kind: 'reissuing', ...both, direction: 'forward' }
const back: Phase = { kind: 'reissuing', ...both, direction: 'back' }

t.test('each phase has its steps, and no other', async (t) => {
  t.same(prepared(steady, two, 1000), distributing)
  t.same(activated(distributing, 2000), forward)
  t.same(aborted(distributing, 2000), steady)
  t.same(aborted(forward, 2000), back)
  t.same(retired(forward), { kind: 'steady', current: two })
  t.same(retired(back), steady)
  for (const phase of [distributing, forward, back]) t.equal(prepared(phase, two, 1), null)
  for (const phase of [steady, forward, back]) t.equal(activated(phase, 1), null)
  for (const phase of [steady, back]) t.equal(aborted(phase, 1), null)
  for (const phase of [steady, distributing]) t.equal(retired(phase), null)
})

t.test('each phase says which slot issues, which are trusted and which goes', async (t) => {
  t.same([steady, distributing, forward, back].map(issuingSlot), [one, one, two, one])
  t.same([steady, distributing, forward, back].map(leavingSlot), [null, null, one, two])
  t.same(trustedSlots(steady), [one])
  for (const phase of [distributing, forward, back]) t.same(trustedSlots(phase), [one, two])
})

const good: HostFacts = {
  host: 'h1',
  live: true,
  bundleEpoch: 7,
  heldUnderLeaving: 0,
  quietMs: 5000,
  problem: '',
}
const facts = (hosts: readonly HostFacts[]): RotationFacts => ({
  bundleEpoch: 7,
  hosts,
  controllers: [],
  storeNodes: [],
  quietMs: 5000,
  leafTtlMs: 60_000,
})

t.test(
  'nodes of an etcd are waited for, those that are away for no longer than hosts',
  async (t) => {
    const node = (isAway: boolean, problem: string): RotationFacts => ({
      ...facts([good]),
      storeNodes: [
        { node: '10.0.0.1:2379', isAway, problem },
        { node: '10.0.0.2:2379', isAway: false, problem: '' },
      ],
    })
    const waits = { kind: 'wait', for: [{ host: 'etcd 10.0.0.1:2379', why: 'it is old' }] }
    for (const phase of [distributing, forward, back]) {
      t.same(nextStep(phase, node(false, 'it is old'), 3000), waits, phase.kind)
      t.same(nextStep(phase, node(true, 'it is old'), 3000), waits, `${phase.kind}, away`)
    }
    t.same(nextStep(distributing, node(false, ''), 3000), { kind: 'activate' })
    t.same(nextStep(forward, node(false, ''), 3000), { kind: 'retire' })
    const late = 1_000_000_000
    t.same(nextStep(forward, node(false, 'it is old'), late), waits, 'its certificate lives on')
    t.same(nextStep(forward, node(true, 'it is old'), late), { kind: 'retire' }, 'it may be gone')
  },
)

t.test('the next root is used once every live host trusts it', async (t) => {
  const step = (...hosts: HostFacts[]) => nextStep(distributing, facts(hosts), 3000)
  t.same(step(), { kind: 'activate' }, 'no hosts')
  t.same(step(good), { kind: 'activate' })
  t.same(step(good, { ...good, bundleEpoch: 6, live: false }), { kind: 'activate' }, 'one is away')
  const lags = step(good, { ...good, host: 'h2', bundleEpoch: 6, problem: 'its disk is full' })
  t.same(lags, {
    kind: 'wait',
    for: [{ host: 'h2', why: 'it acts on trust bundle 6, not 7: its disk is full' }],
  })
  t.match(step({ ...good, bundleEpoch: 0 }), { for: [{ why: /has not said/ }] })
})

t.test('a root goes once no host holds or uses anything under it', async (t) => {
  for (const phase of [forward, back]) {
    const step = (...hosts: HostFacts[]) => nextStep(phase, facts(hosts), 3000)
    t.same(step(good), { kind: 'retire' })
    t.match(step({ ...good, heldUnderLeaving: 2 }), { for: [{ why: /holds 2 certificates/ }] })
    t.match(step({ ...good, quietMs: 4999 }), { for: [{ why: /handshake/ }] })
    t.match(step({ ...good, bundleEpoch: 6 }), { for: [{ why: /trust bundle 6, not 7/ }] })
    const away = { ...good, host: 'h2', live: false }
    t.match(step(good, away), { kind: 'wait', for: [{ host: 'h2', why: /away/ }] })
    t.same(
      nextStep(phase, facts([away, { ...good, heldUnderLeaving: 1 }]), 2000 + 65_001),
      { kind: 'retire' },
      'what was issued under it has ended',
    )
  }
})

/** What a directory holds, by name. */
type Files = ReadonlyMap<string, string>

function filesOf(directory: string): Files {
  return new Map(
    readdirSync(directory).map((name) => [name, readFileSync(`${directory}/${name}`, 'utf8')]),
  )
}

/** Every state a crash can leave between two: the writes in order, cut short or whole, then removals. */
function* crashes(before: Files, after: Files): Generator<Files> {
  const files = new Map(before)
  const changed = [...after].filter(([name, text]) => before.get(name) !== text)
  // The file that names the others comes last.
  changed.sort(([a], [b]) => Number(a === 'ca.json') - Number(b === 'ca.json'))
  for (const [name, text] of changed) {
    for (const length of [0, 1, text.length >> 1, text.length - 1, text.length]) {
      yield new Map([...files, ['.0123456789ab.tmp', text.slice(0, length)]])
    }
    files.set(name, text)
    yield new Map(files)
  }
  for (const name of before.keys()) {
    if (after.has(name)) continue
    files.delete(name)
    yield new Map(files)
  }
}

t.test('a crash at any byte of a step leaves the CA before or after it', async (t) => {
  const root = testDirectory(t)
  const open = (state: string): Promise<Authority> =>
    Authority.open(
      { clock, random, logger },
      { stateDirectory: state, trustDomain, leafTtlMs: 60_000 },
    )
  const state = `${root}/state`
  const authority = await open(state)
  let count = 0
  const takeStep = async (what: string, step: () => Promise<boolean>): Promise<void> => {
    const before = { files: filesOf(`${state}/ca`), bundle: authority.bundlePem }
    t.equal(await step(), true, what)
    const after = { files: filesOf(`${state}/ca`), bundle: authority.bundlePem }
    for (const files of crashes(before.files, after.files)) {
      const crashed = `${root}/crash${count++}`
      mkdirSync(`${crashed}/ca`, { recursive: true })
      for (const [name, text] of files) writeFileSync(`${crashed}/ca/${name}`, text)
      const opened = await open(crashed)
      t.ok([before.bundle, after.bundle].includes(opened.bundlePem), what)
      const names = opened.phase.kind === 'steady' ? 3 : 5
      t.equal(readdirSync(`${crashed}/ca`).length, names, 'nothing is left over')
      // Whatever is there can be rotated to its end.
      if (opened.phase.kind === 'steady') await opened.prepare()
      if (opened.phase.kind === 'distributing') await activate(opened)
      t.equal(await retire(opened), true)
      t.equal((await open(crashed)).bundlePem, opened.bundlePem)
    }
  }
  await takeStep('prepare', () => authority.prepare())
  const first = authority.roots[0]
  await takeStep('abort', () => abort(authority))
  t.equal(authority.bundlePem, first)
  await takeStep('prepare again', () => authority.prepare())
  await takeStep('activate', () => activate(authority))
  await takeStep('go back', () => abort(authority))
  await takeStep('retire the next', () => retire(authority))
  t.equal(authority.bundlePem, first)
  await authority.prepare()
  await activate(authority)
  const [, second] = authority.roots
  await takeStep('retire', () => retire(authority))
  t.equal(authority.bundlePem, second)
  t.equal(await retire(authority), false)
})

t.test('a directory of the first format is taken over, at any byte of a crash', async (t) => {
  const root = testDirectory(t)
  const settings = { trustDomain, leafTtlMs: 60_000 }
  const open = (state: string): Promise<Authority> =>
    Authority.open({ clock, random, logger }, { stateDirectory: state, ...settings })
  const state = `${root}/state`
  const { bundlePem } = await open(state)
  const now = filesOf(`${state}/ca`)
  const old = new Map([
    ['ca.json', JSON.stringify({ format: 1, trustDomain })],
    ['root.pem', now.get('1.root.pem') ?? ''],
    ['issuing.pem', now.get('1.issuing.pem') ?? ''],
  ])
  let count = 0
  for (const files of [old, ...crashes(old, now)]) {
    const crashed = `${root}/crash${count++}`
    mkdirSync(`${crashed}/ca`, { recursive: true })
    for (const [name, text] of files) writeFileSync(`${crashed}/ca/${name}`, text)
    t.equal((await open(crashed)).bundlePem, bundlePem)
    t.same([...filesOf(`${crashed}/ca`).keys()].sort(), [...now.keys()].sort())
  }
})
